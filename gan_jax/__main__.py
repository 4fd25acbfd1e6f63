"""`python -m gan_jax` does what launch.py does."""

from gan_jax.modes.door import enter

if __name__ == "__main__":
    enter()
