"""What encoders and probes compute on, and how long a large encoder would take there."""

import re
import shutil
import subprocess
import time

import torch

from echolung.device import default_precision
from echolung.doctor.finding import Finding
from echolung.text import about, in_bytes

VIT_LARGE = 1.2e12
"""Operations of ViT-L on one clip of 16 frames at 224 px: 1,568 tokens, 303 M weights, 24 layers of attention."""

EFFICIENCY = 0.5
"""Share of the speed of a plain matrix product that ViT-L was seen to reach on a CPU."""

SIDE = 1024


def check_device() -> list[Finding]:
    """Check torch, and the GPU or what its lack means."""
    if torch.cuda.is_available():
        return [_torch(), *_gpus()]
    return [_torch(), *_lost_gpu(), _cpu()]


def _torch() -> Finding:
    build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for CPUs alone"
    return Finding("torch", "pass", f"{torch.__version__}, {build}")


def _gpus() -> list[Finding]:
    found = []
    for index in range(torch.cuda.device_count()):
        name, (free, total) = torch.cuda.get_device_name(index), torch.cuda.mem_get_info(index)
        what = f"{name}, {in_bytes(free)} of {in_bytes(total)} free, {default_precision(f'cuda:{index}')}"
        try:
            torch.ones(8, 8, device=f"cuda:{index}").mm(torch.ones(8, 8, device=f"cuda:{index}")).sum().item()
        except RuntimeError as error:  # a GPU that this build has no code for
            fix = "Install a torch built for this GPU (https://pytorch.org), or compute with --device cpu."
            found.append(Finding(f"cuda:{index}", "fail", f"{name}: {str(error).splitlines()[0]}", fix))
            continue
        if free < 4e9:
            fix = "End what else runs on it (nvidia-smi lists it), or take a smaller --batch."
            found.append(Finding(f"cuda:{index}", "warn", what, fix))
        else:
            found.append(Finding(f"cuda:{index}", "pass", what))
    return found


def _lost_gpu() -> list[Finding]:
    """Return a warning where a driver sees a GPU that torch does not."""
    driver = _driver()
    if driver is None:
        return []
    name, number, cuda = driver
    if not torch.version.cuda:
        why, fix = "this torch is built for CPUs alone", "Install a torch with CUDA: https://pytorch.org says which."
    elif cuda and _numbers(cuda) < _numbers(torch.version.cuda)[:1]:
        why = f"the driver {number} goes up to CUDA {cuda}, and torch is built for {torch.version.cuda}"
        fix = "Update the driver, or install a torch built for an older CUDA."
    else:
        why = "torch cannot use it"
        fix = "Look at CUDA_VISIBLE_DEVICES, at nvidia-smi, and whether a container was given the GPU (--gpus all)."
    return [Finding("GPU", "warn", f"{name} is there, but {why}", fix)]


def _driver() -> tuple[str, str, str] | None:
    """Return name of the first GPU, version of the driver and the newest CUDA it knows, as nvidia-smi says; None without."""
    if shutil.which("nvidia-smi") is None:
        return None
    try:
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        line = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()[0]
        page = subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError, IndexError):
        return None
    name, _, number = line.partition(",")
    cuda = re.search(r"CUDA Version:\s*([\d.]+)", page)
    return name.strip(), number.strip(), cuda[1] if cuda else ""


def _numbers(text: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", text)]


def _cpu() -> Finding:
    clip = VIT_LARGE / (speed() * EFFICIENCY)
    seconds = f"{clip:.2g} s" if clip < 100 else about(clip)
    return Finding(
        "GPU",
        "warn",
        f"none; the CPU would take {about(1000 * clip)} for 1,000 clips of a ViT-L ({seconds} each)",
        "Small encoders and all probes are fine on a CPU. For a ViT-L extract on a machine with a GPU, copy the store.",
    )


def speed() -> float:
    """Return the operations a second of a float32 matrix product here, the best of a few, in a quarter of a second."""
    a = torch.ones(SIDE, SIDE)
    times: list[float] = []
    began = time.perf_counter()
    while not times or time.perf_counter() - began < 0.25:
        start = time.perf_counter()
        a.mm(a)
        times.append(time.perf_counter() - start)
    return 2 * SIDE**3 / min(times)
