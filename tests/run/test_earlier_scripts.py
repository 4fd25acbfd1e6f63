"""Scripts of earlier revisions call `gan_jax.api` as they did then."""

import logging

from gan_jax import api, evaluating, training

logger = logging.getLogger("gan_jax.somewhere.inside")


def test_a_function_takes_the_lines(monkeypatch, capsys):
    def train(config, workdir):
        logger.info(f"training {config} in {workdir}")
        return {"step": 3}

    def evaluate(workdir, state, config, **more):
        logger.info(f"{workdir}, {state}, {config}, {more}")
        return {"fid": 2.0}

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(evaluating, "evaluate", evaluate)
    found: list[str] = []
    assert api.train("a config", "runs/a", say=found.append) == {"step": 3}
    assert api.evaluate("runs/a", "best", found.append, places={}) == {"fid": 2.0}
    assert found == ["training a config in runs/a", "runs/a, best, None, {'data': {}}"]
    api.train("a config", "runs/b")
    assert capsys.readouterr().out == "training a config in runs/b\n"
