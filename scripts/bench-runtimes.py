"""ONNX Runtime and OpenVINO predicting a net that bench-peers.py --export wrote, for scripts/bench.

    python3 scripts/bench-runtimes.py --onnx FILE --mode MODE [--precision fp32|bf16] [--threads T]

Bursts as in bursts.py, the batch being the file's. Modes: onnxruntime, with all its optimizations
of the graph, one operator at a time on all threads; openvino-latency and openvino-throughput, its
two performance hints: one batch on all threads, or several batches at once on some threads each.

Surprising: no torch here, so that the memory shown is the runtime's own. ONNX Runtime has no bf16
on x86; OpenVINO's is a hint that it ignores on a CPU without the instructions, so its answer is
asked for and checked.
"""

import sys

import numpy as np

import bursts

MODES = ("onnxruntime", "openvino-latency", "openvino-throughput")


def picture_batch(shape):
    return np.random.default_rng(1).random(shape, dtype=np.float32)


def onnxruntime_step(options):
    import onnxruntime
    if options.precision != "fp32":
        sys.exit("onnxruntime: no bf16 on this device")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = options.threads, 1
    net = onnxruntime.InferenceSession(options.onnx, settings, ["CPUExecutionProvider"])
    given = net.get_inputs()[0]
    options.batch = given.shape[0]
    x = {given.name: picture_batch(given.shape)}
    return lambda: net.run(None, x), None


def openvino_net(options):
    import openvino
    wanted = {"fp32": openvino.Type.f32, "bf16": openvino.Type.bf16}[options.precision]
    net = openvino.Core().compile_model(options.onnx, "CPU", {
        "PERFORMANCE_HINT": options.mode.split("-")[1].upper(),
        "INFERENCE_NUM_THREADS": options.threads, "INFERENCE_PRECISION_HINT": wanted})
    if net.get_property("INFERENCE_PRECISION_HINT") != wanted:
        sys.exit(f"openvino: no {options.precision} on this device")
    return net


def openvino_step(options):
    import openvino
    net = openvino_net(options)
    options.batch = net.inputs[0].shape[0]

    def filled(request):
        request.set_input_tensor(openvino.Tensor(picture_batch(tuple(net.inputs[0].shape))))
        return request

    if options.mode == "openvino-latency":
        return filled(net.create_infer_request()).infer, None
    queue = openvino.AsyncInferQueue(net)
    for request in queue:
        filled(request)
    return queue.start_async, queue.wait_all


def main():
    parser = bursts.parser(__doc__.split("\n", 1)[0], MODES)
    parser.add_argument("--onnx", required=True)
    options = parser.parse_args()
    make = onnxruntime_step if options.mode == "onnxruntime" else openvino_step
    bursts.serve(lambda: make(options), options)


if __name__ == "__main__":
    main()
