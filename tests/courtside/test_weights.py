"""Loading a SAM 3 video model, and each reason why it can't be loaded."""

from __future__ import annotations

import json
import shutil
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from courtside.device import Device
from courtside.errors import ModelError
from courtside.hub import locate
from courtside.sam3.weights import fit, load, memory_needed

CPU = Device(torch.device("cpu"), torch.float32, "a test")
GIB = 2**30


@pytest.fixture
def copy(random_sam3: Path, tmp_path: Path) -> Path:
    """A copy of the random model to damage."""
    return Path(shutil.copytree(random_sam3, tmp_path / "model"))


def edit(path: Path, **changes) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | changes))


def test_a_folder_loads_in_the_devices_format(random_sam3, tmp_path):
    model, processor, device = load(random_sam3, CPU)
    assert device == CPU
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    model.save_pretrained(tmp_path)
    stored, again = (load_file(folder / "model.safetensors") for folder in (random_sam3, tmp_path))
    assert stored.keys() == again.keys()
    assert all(torch.equal(again[key], value) for key, value in stored.items())
    assert processor.tokenizer("player")["input_ids"]


def test_weights_in_half_precision_are_converted(copy):
    file = copy / "model.safetensors"
    stored = {key: value.half() for key, value in load_file(file).items()}
    save_file(stored, file, metadata={"format": "pt"})
    edit(copy / "config.json", dtype="float16")
    model, _, _ = load(str(copy), CPU)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.state_dict()["tracker_neck.fpn_layers.0.proj1.weight"],
                       stored["tracker_neck.fpn_layers.0.proj1.weight"].float())  # fmt: skip


def remove(*names: str):
    def act(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return act


def only_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def cut_off(folder: Path, length: int = 100_000) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:length])


def lose_a_weight(folder: Path) -> None:
    file = folder / "model.safetensors"
    stored = load_file(file)
    del stored["tracker_neck.fpn_layers.0.proj1.weight"]
    save_file(stored, file, metadata={"format": "pt"})


def lose_a_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def huge(folder: Path) -> None:
    """Weights of 4 TiB as the head says, in a file that takes no room on the disk."""
    head = json.dumps({"huge": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        file.truncate(8 + len(head) + 2**42)


@pytest.mark.parametrize(
    ("case", "damage", "sentence"),
    [
        ("no config", remove("config.json"), "is no model folder: it has no config.json"),
        ("config is no JSON", lambda f: (f / "config.json").write_text("{"), "is not the JSON of a model's"),
        ("config is a list", lambda f: (f / "config.json").write_text("[]"), "is not the JSON of a model's"),
        (
            "another kind of model",
            lambda f: edit(f / "config.json", model_type="sam2_video"),
            "is not a SAM 3 video model: its config.json says model_type 'sam2_video'",
        ),
        ("no weights", remove("model.safetensors"), "has no weights: model.safetensors is missing"),
        ("weights only as a pickle", only_pickle, r"only as a pickle \(pytorch_model.bin\), which can"),
        ("a shard is missing", lose_a_shard, "has no weights: model-00001-of-00002.safetensors is missing"),
        (
            "shards without a map",
            lambda f: (f / "model.safetensors.index.json").write_text("{}"),
            "does not say where the weights are",
        ),
        ("weights cut off", cut_off, "model.safetensors is cut off at 100000 of .* bytes"),
        ("head cut off", lambda f: cut_off(f, 9), "model.safetensors is cut off at 9 of .* bytes"),
        ("empty file", lambda f: cut_off(f, 0), "model.safetensors is damaged, its head can't be read"),
        ("a weight is missing", lose_a_weight, "lacks 1 of the model's weights, tracker_neck.fpn_layers.0"),
        ("no tokenizer", remove("tokenizer.json"), r"has no tokenizer \(tokenizer.json\)"),
        ("no processor", remove("processor_config.json"), "has no processor_config.json"),
        (
            "settings that contradict each other",
            lambda f: edit(f / "config.json", hotstart_delay=1),
            "can't be loaded as a SAM 3 video model: .*",
        ),
        ("too little memory", huge, r"needs about 4096\.. GiB and cpu has .* GiB free: close"),
    ],
)
def test_a_folder_that_can_not_be_used_is_one_sentence(case, damage, sentence, copy):
    damage(copy)
    with pytest.raises(ModelError, match=sentence) as caught:
        load(copy, CPU)
    assert "\n" not in str(caught.value)
    assert str(copy) in str(caught.value)


@pytest.mark.parametrize("name", ["data/models/absent", "./absent", "absent", "/absent/model", "a/b/c"])
def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(name):
    with pytest.raises(ModelError, match=f"there is no model folder {name}: give a folder with config.json"):
        load(name, CPU)


def test_a_file_is_no_model(tmp_path):
    file = tmp_path / "model.safetensors"
    file.touch()
    with pytest.raises(ModelError, match="is a file: give the folder"):
        load(file, CPU)


def test_memory_needed_counts_weights_and_room_to_work():
    shapes = {"a": [1000, 1000], "b": [7], "scalar": []}
    config = {"tracker_config": {"image_size": 1008}}
    assert memory_needed(shapes, config, torch.float32) == 4 * 1_000_008 + 3 * GIB
    assert memory_needed(shapes, config, torch.bfloat16) == 2 * 1_000_008 + 3 * GIB // 2
    assert memory_needed({}, {"tracker_config": {"image_size": 504}}, torch.float32) == 3 * GIB // 4
    assert memory_needed({}, {}, torch.float32) == 3 * GIB


GPU = Device(torch.device("cuda", 0), torch.bfloat16, "a test")


@pytest.mark.parametrize(
    ("case", "start", "free", "ends_on", "warned"),
    [
        ("the GPU has room", GPU, {"cuda": 6 * GIB, "cpu": 0}, "cuda:0", False),
        ("the GPU just fits", GPU, {"cuda": 5 * GIB, "cpu": 0}, "cuda:0", False),
        ("the GPU is full", GPU, {"cuda": 4 * GIB, "cpu": 32 * GIB}, "cpu", True),
        ("the CPU has room", CPU, {"cpu": 10 * GIB}, "cpu", False),
        ("neither has room", GPU, {"cuda": GIB, "cpu": 9 * GIB}, None, True),
        ("the CPU has too little", CPU, {"cpu": GIB}, None, False),
    ],
)
def test_too_little_memory_falls_back_to_the_cpu_and_then_fails(case, start, free, ends_on, warned):
    def attempt():
        return fit("the model", lambda t: {2: 5, 4: 10}[t.itemsize] * GIB, start, lambda d: free[d.type])

    def judged():
        if ends_on is None:
            with pytest.raises(ModelError, match=r"the model needs about 10.0 GiB and cpu has .* free"):
                attempt()
            return None
        return attempt()

    if warned:
        with pytest.warns(UserWarning, match="needs about 5.0 GiB and cuda:0 has .* using the CPU"):
            used = judged()
    else:
        used = judged()
    if ends_on is not None:
        assert str(used.device) == ends_on
    if ends_on == "cpu" and warned:
        assert used.dtype == torch.float32
        assert "fell back from cuda:0" in used.reason


@dataclass
class Hub:
    """A small server that speaks enough of the hub's protocol to refuse, to fail and to deliver."""

    model: Path
    url: str = ""
    gated: bool = False
    absent: bool = False
    status: int = 0
    failures: int = 0
    asked: list[str] = field(default_factory=list)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(f"{request.command} {request.path}")
        if self.failures > 0:
            self.failures -= 1
            return self.send(request, 503)
        if self.status:
            return self.send(request, self.status)
        if self.absent:
            return self.send(request, 404, {"X-Error-Code": "RepoNotFound"})
        path = request.path.split("?")[0]
        if path.startswith("/api/models/") and "/tree/" in path:
            files = [
                {"type": "file", "path": p.name, "size": p.stat().st_size, "oid": f"{p.stat().st_size:040x}"}
                for p in sorted(self.model.iterdir())
            ]
            return self.send(request, 200, body=json.dumps(files).encode())
        if path.startswith("/api/models/"):
            names = [{"rfilename": p.name} for p in sorted(self.model.iterdir())]
            content = {"id": "club/model", "_id": "1", "sha": "c" * 40, "siblings": names}
            return self.send(request, 200, body=json.dumps(content).encode())
        if self.gated:
            return self.send(request, 401, {"X-Error-Code": "GatedRepo"})
        file = self.model / path.rsplit("/", 1)[1]
        tag = {"ETag": f'"{file.stat().st_size:040x}"', "X-Repo-Commit": "c" * 40}
        return self.send(request, 200, tag, file.read_bytes())

    @staticmethod
    def send(request, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        request.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            request.send_header(key, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)


@pytest.fixture
def hub(random_sam3: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub client pointed at a server of this test, with an empty cache and nobody logged in."""
    served = Hub(random_sam3)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}"
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", served.url)
    template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_name_is_downloaded_once_and_then_used_without_the_network(hub):
    folder = locate("club/model", first_wait_s=0.01)
    for file in hub.model.iterdir():
        assert (folder / file.name).read_bytes() == file.read_bytes()
    hub.asked.clear()
    assert locate("club/model") == folder
    assert hub.asked == []


def test_a_network_that_fails_twice_is_tried_again(hub):
    hub.failures = 2
    assert (locate("club/model", first_wait_s=0.01) / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("case", "change", "token", "sentence"),
    [
        (
            "gated, not logged in",
            {"gated": True},
            None,
            "club/model is gated and you have no access yet: run `hf auth login` and accept the licence at"
            " https://huggingface.co/club/model; or --model data/models/sam3-tiny runs without",
        ),
        (
            "gated, logged in",
            {"gated": True},
            "hf_not_a_real_token",
            "club/model is gated and you have no access yet: accept the licence at"
            " https://huggingface.co/club/model; or --model data/models/sam3-tiny runs without",
        ),
        ("no such model", {"absent": True}, None, "the Hugging Face hub shows no model club/model: check"),
        ("refused", {"status": 418}, None, "the Hugging Face hub refused club/model with HTTP status 418"),
        ("never there", {"failures": 10**6}, None, "no network: club/model could not be downloaded in 2 "),
    ],
)
def test_a_hub_that_refuses_is_one_sentence(case, change, token, sentence, hub, monkeypatch):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    for name, value in change.items():
        setattr(hub, name, value)
    with pytest.raises(ModelError, match=sentence) as caught:
        load("club/model", CPU, attempts=2, first_wait_s=0.01)
    assert "\n" not in str(caught.value)


def test_no_network_waits_longer_each_time_and_then_gives_up(hub, monkeypatch):
    waits = []
    monkeypatch.setattr("courtside.hub.time.sleep", waits.append)
    # Nothing listens on the reserved port 1.
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(ModelError, match="no network: club/model could not be downloaded in 5 attempts"):
        load("club/model", CPU)
    assert [wait for wait in waits if wait >= 1] == [1, 2, 4, 8]


def test_offline_mode_is_said_at_once(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="club/model was not downloaded yet and HF_HUB_OFFLINE forbids it"):
        load("club/model", CPU)
    assert hub.asked == []
