-- order.lua - the parts of gpu-check, in the order in which they run: right before fast.
return {
  "machine", "specs", "robust", "memory", "gradients", "losses", "sanitizer", "epochs", "bench",
  "layers", "compile",
}
