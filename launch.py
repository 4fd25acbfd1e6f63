"""The one door for a shell; `gan_jax` is the same command after `pip install`.

    python launch.py --config=configs/dcgan_mnist.py --workdir=runs/a --config.optim.gen.lr=1e-4
    python launch.py --mode=sample --workdir=runs/a --seeds=0-63
    python launch.py --mode=sample --help

The command line is read and run in gan_jax/modes/door.py, which tells the exit statuses.
"""

from gan_jax.modes.door import enter

if __name__ == "__main__":
    enter()
