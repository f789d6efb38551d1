"""All that touches JAX's internals: compile an XLA program that TensorFlow made, and call it on the first device.

JAX has no public way to compile a foreign HLO module. The functions below are those of jaxlib 0.10 to 0.12.
"""

import importlib.util
import os

import numpy as np

from glcic_tf.common.errors import UserError, first_line

try:
    import jax
    from jax._src import compiler
    from jax._src.interpreters import mlir
    from jax._src.lib import _jax, xla_client
    from jax._src.lib.mlir import ir
except ImportError as error:
    raise UserError(
        f"JAX 0.10 to 0.12 is needed to run a bundle ({error}); install it for your device, see jax.dev."
    ) from error

jax.config.update("jax_enable_x64", True)  # counters of steps are int64


def device():
    """Return the device that programs run on; raises UserError if JAX finds none, or it is taken."""
    try:
        return jax.devices()[0]
    except RuntimeError as error:
        raise UserError(f"JAX reaches no device ({first_line(error)}); see that no other process holds it.") from error


class _Compiled:
    """What both kinds of programs know; `_executable` is JAX's."""

    @property
    def flops(self):
        """Operations of one pass through the body of its loop, as XLA counts them; None if it does not say."""
        return self._analysis("flops")

    @property
    def bytes_accessed(self):
        """Bytes that this pass reads and writes in memory, likewise."""
        return self._analysis("bytes accessed")

    @property
    def memory(self):
        """What XLA plans for a call: jaxlib's CompiledMemoryStats; None if it does not say."""
        try:
            return self._executable.get_compiled_memory_stats()
        except (RuntimeError, NotImplementedError):
            return None

    @property
    def memory_bytes(self):
        """Peak memory that XLA plans for a call, bytes; None if it does not say."""
        stats = self.memory
        if stats is None:
            return None
        sizes = stats.argument_size_in_bytes + stats.output_size_in_bytes + stats.temp_size_in_bytes
        return sizes - stats.alias_size_in_bytes

    def _analysis(self, name):
        try:
            analysis = self._executable.cost_analysis()
        except (RuntimeError, NotImplementedError):
            return None
        analysis = analysis[0] if isinstance(analysis, list) else analysis
        return analysis.get(name)


class Program(_Compiled):
    """A compiled program. Parameters whose new values are results give their memory to these.

    Args:
        hlo: bytes of a serialised HloModuleProto.
        name: for messages.

    Attributes:
        parameters: list of (dtype, shape).

    Raises:
        UserError: it is not such a module, or the device cannot run it.
    """

    def __init__(self, hlo, name):
        try:
            computation = xla_client.XlaComputation(hlo)
            shapes = computation.program_shape().parameter_shapes()
            client = device().client
            with mlir.make_ir_context() as context, ir.Location.unknown(context):
                module = ir.Module.parse(_jax.mlir.xla_computation_to_mlir_module(computation))
                options = compiler.get_compile_options(num_replicas=1, num_partitions=1, backend=client)
                devices = _jax.DeviceList((device(),))
                self._executable = compiler.backend_compile_and_load(client, module, devices, options, [])
        except (RuntimeError, ValueError) as error:  # XLA's own errors are among the first
            raise UserError(f"{name}: cannot be compiled for {device().platform} ({first_line(error)}).") from error
        self.parameters = [(np.dtype(shape.numpy_dtype()), tuple(shape.dimensions())) for shape in shapes]

    def __call__(self, arrays):
        """Run it on a list of jax.Arrays, one for each parameter; return the list of results, without waiting."""
        results = self._executable.execute_sharded(arrays)
        return [one[0] for one in results.disassemble_into_single_device_arrays()]


class AbsentProgram(_Compiled):
    """A program compiled for a device that is not there.

    Args:
        hlo, name: as for `Program`.
        device: what `absent_device` returned.

    Raises:
        UserError: it is not such a module, or the compiler refuses it.
        MemoryError: it does not fit into the device's memory.
    """

    def __init__(self, hlo, name, device):
        try:
            self._computation = xla_client.XlaComputation(hlo)
            text = _jax.mlir.xla_computation_to_mlir_module(self._computation)
            text = text.replace("mhlo.copy", "stablehlo.convert")  # which these compilers do not know
            with mlir.make_ir_context() as context, ir.Location.unknown(context):
                options = compiler.get_compile_options(
                    num_replicas=1, num_partitions=1, device_assignment=np.array([[device]]), backend=device.client
                )
                devices = _jax.DeviceList((device,))
                self._executable = device.client.compile(ir.Module.parse(text), devices, options)
        except (RuntimeError, ValueError) as error:
            if "RESOURCE_EXHAUSTED" in str(error):
                raise MemoryError(first_line(error)) from error
            raise UserError(f"{name}: cannot be compiled for {device.device_kind} ({first_line(error)}).") from error

    @property
    def flops(self):
        """As `_Compiled` has it; where the compiler does not say (a GPU's), those of the program as it was given."""
        counted = super().flops
        if counted is None:
            module = self._computation.get_hlo_module()
            counted = _jax.hlo_module_cost_analysis(xla_client.make_cpu_client(), module)["flops"]
        return counted


def absent_tpu(topology):
    """Return the first chip of TPUs that this machine need not have, to compile for.

    Args:
        topology: such as "v5e:2x2".

    Raises:
        UserError: the compiler is not installed, or knows no such topology.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("the package libtpu, the compiler for TPUs, is not installed; run: pip install 'jax[tpu]'")
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # else it asks the network what machine this is
    return _absent("tpu", topology)


def absent_gpu(name, description):
    """Return a GPU that this machine need not have, to compile for.

    Args:
        name: what messages call it.
        description: XLA's GpuTargetConfig in text format.

    Raises:
        UserError: the compiler is not installed, or does not take the description.
    """
    if importlib.util.find_spec("jax_cuda13_plugin") is None:
        raise UserError("JAX's compiler for GPUs is not installed; run: pip install 'jax[cuda13]'")
    os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"  # which asks the driver, and there may be none
    # Kernels are chosen by trying them on the device; Triton's matrix products cannot do without.
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"
    )
    return _absent("cuda", name, target_config=description, topology="1x1x1")


def _absent(platform, name, **options):
    from jax.experimental import topologies

    try:
        return topologies.get_topology_desc(name, platform, **options).devices[0]
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise UserError(f"--target: cannot compile for {name} ({first_line(error)}).") from error


def put(array):
    """Start to copy a NumPy array to the device: jax.Array."""
    return jax.device_put(array, device())


def get(array):
    """Copy a jax.Array to the host, waiting until it is there: NumPy array."""
    return np.asarray(array)
