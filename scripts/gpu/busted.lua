-- busted.lua - busted's own program, for a machine that has busted's Lua files and no program.
-- usage: cnnlua scripts/gpu/busted.lua [busted's options] FILE...
--
-- Without a card it fails: the specs would pass with nothing tried. Surprising: convolutions of a
-- card compute tf32 unless they are told otherwise, ten thousand times coarser than specs compare.
local C = require "cnn.ffi".C

assert(C.cnn_cuda_count() > 0 and C.cnn_cuda_set_precision "fp32" == 0,
  require "ffi".string(C.cnn_error()))
require "busted.runner" { standalone = false }
