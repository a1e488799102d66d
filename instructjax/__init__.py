"""InstructGPT's recipe in JAX: SFT, K-wise reward models and PPO-ptx.

Importing the package imports nothing else; the entry points import JAX when
they need it.
"""

__version__ = '0.1.0'
