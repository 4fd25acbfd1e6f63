"""Makes a run from a .pt file of guided-diffusion, to sample from, evaluate or train further.

    python launch.py --mode=import --from=256x256_diffusion.pt --workdir=runs/e
    python launch.py --mode=import --from=lsun_cat.pt --workdir=runs/cats \\
        --config=configs/diffusion_lsun.py:cat
"""

from gan_jax.modes import flags

FLAGS = flags.FlagValues()
MAKES_RUN = True
FROM = flags.place(FLAGS, "from", "", "A .pt file in guided-diffusion's names.")
PARAMETERS = {"source": "from"}


def main(config, workdir: str) -> int:
    """Writes the run; what the shapes in the file do not tell comes from `config`."""
    from gan_jax.modes.actions import import_file

    import_file.import_file(FROM.value, workdir, config)
    return 0
