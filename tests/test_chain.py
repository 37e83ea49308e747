"""Every configuration composes and becomes settings; a chain goes from stage to stage and is not run twice."""

from dataclasses import fields

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from nlaic.classic.nets.build import FILTERS, complete
from nlaic.errors import NlaicError
from nlaic.nets.build import ARCHITECTURES
from nlaic.nets.jpeg import JpegSettings
from nlaic.resources import resource_folder
from nlaic.train.chain import compose_chain, copy_weights, run_chain
from nlaic.train.checks import check
from nlaic.train.run import run
from nlaic.weights import find_weights
from tests.runs import SMALL

CONF = resource_folder("conf")
RUNS = sorted(file.stem for file in (CONF / "run").glob("*.yaml"))


def composed(*words):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", list(words))


def plain(words):
    return OmegaConf.to_container(composed(*words), resolve=True)


@pytest.mark.parametrize("group", ["model", "stage", "loss", "optimisation", "data", "trainer", "logger"])
def test_every_file_of_a_group_becomes_settings(group):
    """With a stage that has a use for the model, or a model, loss and patch that the stage takes."""
    for file in (CONF / group).glob("*.yaml"):
        words = {"minutes": "1", "start": "weights", "sampling.patch": "256", "data.root": "photos"}
        kind = OmegaConf.load(file).get("name")
        if group == "model":
            words["stage"] = "jpeg" if kind == "jpeg" else "restore" if kind in FILTERS else "rd"
        elif group == "stage":
            words |= {"loss": "hific", "model": {"jpeg": "jpeg", "restore": "restore-light"}.get(kind, "light")}
        check(plain([f"{name}={value}" for name, value in (words | {group: file.stem}).items()]))


@pytest.mark.parametrize("file", sorted((CONF / "model").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_setting_of_a_model_can_be_given(file):
    """Hydra overrides what a file names, and nothing else."""
    model = OmegaConf.load(file)
    if model.name in FILTERS:
        known = complete(model.name, {})
    else:
        known = [field.name for field in fields({**ARCHITECTURES, "jpeg": JpegSettings}[model.name])]
    assert set(model.settings) == set(known)


@pytest.mark.parametrize("name", RUNS)
def test_every_link_of_a_run_becomes_settings(name):
    words = [f"run={name}", "data.root=photos", "dir=run", "minutes=60"]
    config = plain(words)
    for inner in (compose_chain(config, words, plain) if config["links"] else {name: config}).values():
        assert not inner["links"]
        check(inner | {"start": "weights"})
    assert all(link.get("epochs") or link.get("share") for link in config["links"])


def test_the_papers_schedule():
    config = composed("run=paper-mid", "data.root=photos")
    assert {link.name: link.epochs for link in config.links} == {
        "rd": 15,
        "discriminator": 2,
        "adversarial": 2,
        "boundary": 2,
    }
    assert (config.sampling.patch, config.optimisation.adam, config.optimisation.epoch) == (256, 5e-5, 600_000)
    assert config.model.name == "nlaic" and config.optimisation.kind == "adam"


def small_chain(folder, out, *more):
    stages = {"rd": "rd", "discriminator": "discriminator", "adversarial": "adversarial_safe", "boundary": "boundary"}
    words = [
        SMALL,
        "loss=mse",
        "loss.scale=1",
        f"data.root={folder}",
        "data.holdout=4",
        "sampling.batch=1",
        "sampling.patch=128",
    ]
    words += ["trainer.precision=32-true", f"dir={out}", *more]
    config = composed(*words)
    links = [{"name": name, "share": 0.25, "overrides": [f"stage={stage}"]} for name, stage in stages.items()]
    config.links = OmegaConf.create(links)
    return words, OmegaConf.to_container(config)


def test_a_chain_goes_from_stage_to_stage(folder, tmp_path, capsys):
    words, config = small_chain(folder, tmp_path / "runs", "steps=1")
    chain = compose_chain(config, words, plain)
    last = run_chain(chain, run)
    weights = find_weights(str(last))
    assert {"training.rd", "training.discriminator", "training.adversarial", "training.boundary"} <= set(
        weights.metadata
    )
    assert weights.model_id == find_weights(str(tmp_path / "runs" / "rd" / "weights.safetensors")).model_id
    capsys.readouterr()
    assert (
        run_chain(chain, lambda inner: pytest.fail("run twice")) == tmp_path / "runs" / "boundary" / weights.path.name
    )
    assert "done: rd, discriminator, adversarial, boundary" in capsys.readouterr().out


def test_a_chains_weights_are_copied_to_where_they_are_wanted(tmp_path):
    made = tmp_path / "weights.safetensors"
    made.write_bytes(b"weights")
    copy_weights(made, tmp_path / "new" / "mine.safetensors")
    copy_weights(made, tmp_path / "new")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"mine.safetensors", "weights.safetensors"}
    with pytest.raises(NlaicError, match="cannot write"):
        copy_weights(made, made / "mine.safetensors")


def test_a_chain_stops_where_a_link_does(folder, tmp_path):
    words, config = small_chain(folder, tmp_path / "runs", "minutes=4")
    chain = compose_chain(config, words, plain)
    assert [inner["minutes"] for inner in chain.values()] == [1.0] * 4
    seen = []
    assert run_chain(chain, lambda inner: seen.append(inner["dir"]), start="mine") is None
    assert seen == [str(tmp_path / "runs" / "rd")]


def test_minutes_and_steps_are_both_held_and_folders_have_any_name(folder, tmp_path):
    """Names that Hydra's own grammar would not take, as a command line gives them."""
    place = tmp_path / "lr=1, it's (a) [copy]"
    words = [SMALL, f"data.root={folder}", "effort=3", f'dir="{place}"', "minutes=100", "steps=7"]
    config = plain(["run=light", *words])
    chain = compose_chain(config, ["run=light", *words], plain)
    assert [inner["minutes"] for inner in chain.values()] == pytest.approx([60, 10, 20, 10])
    assert [inner["steps"] for inner in chain.values()] == [7] * 4
    assert [inner["dir"] for inner in chain.values()] == [str(place / name) for name in chain]
    efforts = [inner["stage"].get("effort") for inner in chain.values()]
    assert efforts == [None, 3, 3, 3]


def test_a_network_that_a_later_link_needs_is_missed_before_the_first_begins(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("NLAIC_NETWORKS", raising=False)
    config = plain(["run=light", f"data.root={folder}", f"dir={tmp_path}/runs", "minutes=10"])
    words = [f"loss.networks={tmp_path}", f"data.root={folder}"]
    chain = compose_chain(config, words, plain)
    with pytest.raises(NlaicError, match="alexnet"):
        run_chain(chain, lambda inner: pytest.fail("begun"))


def test_settings_of_later_links_are_looked_at_before_the_first_begins(folder, tmp_path):
    words, config = small_chain(folder, tmp_path / "runs", "steps=1", "sampling.patch=192")
    with pytest.raises(NlaicError, match=r"sampling.patch must be a multiple of 128, but got 192"):
        run_chain(compose_chain(config, words, plain), lambda inner: pytest.fail("begun"))


def test_a_leg_is_of_a_start_and_not_of_a_link(folder, tmp_path, monkeypatch):
    words, config = small_chain(folder, tmp_path / "runs", "minutes=400", "leg_minutes=150")
    clock = iter([0, 100 * 60, 160 * 60])
    monkeypatch.setattr("nlaic.train.chain.time.monotonic", lambda: next(clock))
    legs = []
    assert (
        run_chain(compose_chain(config, words, plain), lambda inner: legs.append(inner["leg_minutes"]) or "w") is None
    )
    assert legs == [150, 50]


def test_the_jpeg_papers_schedule_is_20000_steps(tmp_path):
    words = ["run=jpeg-paper", "data.root=photos", f"dir={tmp_path}"]
    (inner,) = compose_chain(plain(words), words, plain).values()
    assert (inner["steps"], inner["sampling"]["batch"], inner["sampling"]["patch"]) == (20_000, 8, 256)
    words.append("model.settings.lambda_min=0.05")
    (inner,) = compose_chain(plain(words), words, plain).values()
    assert inner["model"]["settings"]["lambda_max"] == 0.05


def test_what_cannot_work_is_one_clear_error(tmp_path):
    for words, message in (
        ([], "needs dir=RUN"),
        ([f"dir={tmp_path}"], "give minutes=N"),
    ):
        config = plain(["run=light", "data.root=photos", *words])
        with pytest.raises(NlaicError, match=message):
            compose_chain(config, words, plain)
