-- conv_sizes.lua - a convolution as the engine is asked about it: the numbers of k_conv in
-- kernels/kernels.h, in its order, all arrays dense.
--
-- conv_sizes.of(layer, x, y): a Conv2d, its input and its output, which may be on "meta".

local conv_sizes = {}

function conv_sizes.of(layer, x, y)
  local n, c, h, w = x:size(1), x:size(2), x:size(3), x:size(4)
  local o, oh, ow = y:size(2), y:size(3), y:size(4)
  return { n, h, w, c, c, oh, ow, o, o, layer.kh, layer.kw, layer.sh, layer.sw, layer.ph, layer.pw,
    layer.dh, layer.dw, layer.groups }
end

return conv_sizes
