"""Packaging: what instructjax needs, and its console script."""

import pathlib
import re
import warnings

import setuptools

_ROOT = pathlib.Path(__file__).resolve().parent


def _version() -> str:
  """Reads the version from the package's text, so nothing is imported."""
  text = (_ROOT / 'instructjax' / '__init__.py').read_text(encoding='utf-8')
  return re.search(r"^__version__ = '([^']+)'", text, re.MULTILINE).group(1)


def _long_description() -> str:
  """Returns README.md, or nothing when packaging a tree without one."""
  readme = _ROOT / 'README.md'
  return readme.read_text(encoding='utf-8') if readme.exists() else ''


# An editable package takes no other folder of this tree along: nothing to heed.
warnings.filterwarnings('ignore', r'\s*Editable installation')

# What the code leans on closely starts at the oldest version the tests ran
# with, the rest where the few calls used here were what they are now. JAX stays
# open upwards: 0.10 is the last line for Python 3.11, 0.12 needs Python 3.12.
INSTALL_REQUIRES = [
  'array_record>=0.8.3',
  'chex>=0.1.92',
  'einops>=0.8.1',
  'eldc>=0.4',
  'flax>=0.12.8',
  'grain>=0.2.18',
  # Preparing a dataset by tensorflow-datasets imports it without saying so.
  'importlib_resources>=6.0',
  'jax>=0.10',
  'jinja2>=3.1.6',
  'matplotlib>=3.9',
  'ml-collections>=1.1',
  'ml-dtypes>=0.5',
  'numpy>=2.0',
  'optax>=0.2.8',
  'orbax-checkpoint>=0.12.8',
  'phonenumberslite>=9.0',
  'pyarrow>=20.0',
  'python-stdnum>=2.2',
  'safetensors>=0.6',
  'sentencepiece>=0.2.1',
  'tensorboardX>=2.6.4',
  # Of it the reader alone, which needs no TensorFlow; array_record is its and
  # grain's own dependency.
  'tensorflow-datasets>=4.9.10',
  'tokenizers>=0.22',
  'tqdm>=4.67',
]

# Beam's own upper bounds, said again so that pip need not search for them, and
# the last SentencePiece whose messages protobuf 6 can read (for transformers).
BEAM_REQUIRES = [
  'apache-beam>=2.77',
  'numpy<2.5',
  'pillow<13',
  'protobuf>=6.33,<7',
  'pyarrow<26',
  'sentencepiece<0.2.3',
]

TEST_REQUIRES = [
  'hypothesis>=6.140',
  'pytest>=9.0',
  'pytest-xdist>=3.8',
  'ruff>=0.15',
]

# What our models are compared with. Newer versions of torch are as good; this
# one is also built without CUDA where an index offers such a build.
PARITY_REQUIRES = ['torch==2.13.0', 'transformers>=5.0']

setuptools.setup(
  name='instructjax',
  version=_version(),
  description=(
    "InstructGPT's recipe in JAX: SFT, K-wise reward models and PPO-ptx"
  ),
  long_description=_long_description(),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  license_files=['LICENSE'],
  packages=setuptools.find_packages(include=['instructjax', 'instructjax.*']),
  python_requires='>=3.11',
  install_requires=INSTALL_REQUIRES,
  extras_require={
    'beam': BEAM_REQUIRES,
    'test': TEST_REQUIRES + BEAM_REQUIRES,
    'parity': PARITY_REQUIRES,
    'dev': (
      TEST_REQUIRES + BEAM_REQUIRES + PARITY_REQUIRES + ['pre-commit>=4.0']
    ),
    'cuda': ['jax[cuda13]>=0.10'],
    'tpu': ['jax[tpu]>=0.10'],
    # The compiler of TPUs comes with their runtime, as old as JAX wants it.
    'plan': ['jax[tpu]>=0.10'],
    'wandb': ['wandb>=0.20'],
  },
  entry_points={'console_scripts': ['instructjax = instructjax.cli:main']},
)
