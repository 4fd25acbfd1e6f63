"""Settings of XLA with which programs compile fast; they are run once or twice."""

import importlib.metadata

# what the compiler saves by optimising less is a third of all, and without the fusion emitters,
# which jaxlib has been able to do without up to version 0.10, another third
EMITTERS = "xla_cpu_use_fusion_emitters"
OPTIONAL_EMITTERS = importlib.metadata.version("jaxlib").startswith("0.10.")
FAST_COMPILING = ("--xla_backend_optimization_level=0",)
if OPTIONAL_EMITTERS:
    FAST_COMPILING += (f"--{EMITTERS}=false",)
