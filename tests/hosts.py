"""Test hosts of one machine: a clean Debian root, layers over it, and namespaces that look like machines with sshd.

Everything is mounted inside a mount namespace and runs inside a process namespace of its own, so that the end of one
process ends both. Nothing here is needed by the package.
"""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).parents[1]

PACKAGES = ("ca-certificates", "iproute2", "openssh-server", "procps", "python3", "rsync", "sudo")
"""What Google's images of Ubuntu have and Debian's smallest root lacks; pip is left to the set-up commands."""

_LOGIN = {"HOME": "/root", "USER": "root", "LANG": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


def missing() -> str | None:
    """Why test hosts cannot be made here, or None where they can."""
    if os.geteuid() != 0:
        return "making hosts takes root"
    absent = [tool for tool in ("debootstrap", "ip", "unshare", "rsync", "ssh", "ssh-keygen") if not shutil.which(tool)]
    if absent:
        return f"not installed: {', '.join(absent)}"
    probe = "unshare --mount --pid --fork --uts --net ip link add probe0 type veth peer name probe1"
    done = subprocess.run(probe.split(), capture_output=True, text=True, check=False)
    return f"no namespaces: {done.stderr.strip()}" if done.returncode else None


def clean_root(path: Path) -> None:
    """A Debian with nothing of ours in it, and what it needs to use this machine's package registries."""
    mirror = next(
        (line.split()[1] for line in _sources() if line.startswith(("URIs:", "deb "))), "http://deb.debian.org/debian"
    )
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", "bookworm", str(path), mirror]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    for file in (_BUNDLE, "/etc/pip.conf", "/etc/resolv.conf"):
        if Path(file).exists():
            shutil.copy(file, f"{path}{file}")
    (path / "run/sshd").mkdir(parents=True, exist_ok=True)


def give_python(root: Path, version: str) -> None:
    """Copy this machine's Python of a version into a root, for uv to find; where there is none, uv downloads it."""
    command = [f"python{version}", "-c", "import sys; print(sys.base_prefix)"]
    with contextlib.suppress(FileNotFoundError):
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "PYENV_VERSION": version}
        )
        prefix = done.stdout.strip()
        if done.returncode == 0 and prefix != "/usr":
            # At the same path as here, because programs may have it in them.
            ignore = shutil.ignore_patterns("__pycache__", "site-packages", "test")
            shutil.copytree(prefix, f"{root}{prefix}", symlinks=True, ignore=ignore)
            (root / f"usr/local/bin/python{version}").symlink_to(f"{prefix}/bin/python{version}")


def _sources() -> list[str]:
    files = [*Path("/etc/apt/sources.list.d").glob("debian*"), Path("/etc/apt/sources.list")]
    return [line for file in files if file.exists() for line in file.read_text().splitlines()]


def registry_variables() -> dict[str, str]:
    """This machine's ways to its package registries: proxies, indexes and certificates."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_"))}
    kept |= {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    kept.pop("PIP_FIND_LINKS", None)
    return kept | {"SSL_CERT_FILE": _BUNDLE, "PIP_CERT": _BUNDLE}


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Files over a root: what commands change lies in `upper`, and what they find is `upper` over `lower`."""

    directory: Path
    lower: tuple[Path, ...]
    """From the topmost down to the root."""

    @property
    def upper(self) -> Path:
        return self.directory / "upper"

    @property
    def stack(self) -> tuple[Path, ...]:
        """This layer as the lower ones of another."""
        return self.upper, *self.lower

    def mounts(self, shared: Sequence[Path] = ()) -> str:
        """Shell lines that mount it, to be run in a mount namespace of its own, and the path where it is then."""
        root = self.directory / "root"
        for path in (self.upper, self.directory / "work", root):
            path.mkdir(parents=True, exist_ok=True)
        lower = ":".join(map(str, self.lower))
        lines = [
            "set -e",
            "mount --make-rprivate /",
            f"mount -t overlay overlay -o lowerdir={lower},upperdir={self.upper},workdir={self.directory}/work {root}",
            f"mount -t proc proc {root}/proc",
            f"mount -t sysfs sysfs {root}/sys",  # libtpu counts processors there
            f"mount --rbind /dev {root}/dev",
            f"mount -t tmpfs tmpfs {root}/dev/shm",
        ]
        for path in shared:
            lines += [f"mkdir -p {root}{path}", f"mount --bind {path} {root}{path}"]
        return "\n".join([*lines, f"root={root}"])

    def run(self, command: str, variables: Mapping[str, str]) -> None:
        """Run a set-up command as Ray does, in an interactive login shell, with an otherwise empty environment."""
        told = " ".join(f"{name}={shlex.quote(value)}" for name, value in {**_LOGIN, **variables}.items())
        told_command = shlex.quote(f"source ~/.bashrc; export PYTHONWARNINGS=ignore && ({command})")
        shell = f"bash --login -c -i {told_command}"
        script = f'{self.mounts()}\nexec chroot "$root" env -i -C /root {told} {shell}'
        isolated = ["unshare", "--mount", "--pid", "--fork", "--uts", "--kill-child", "bash", "-c", script]
        done = subprocess.run(isolated, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise AssertionError(f"{command}\nended with {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


@dataclass(kw_only=True)
class Network:
    """A bridge of this machine and the hosts on it; `close` removes all of it."""

    directory: Path
    """For keys and logs."""
    number: int
    """Tells this network from others: of its names, and of its addresses 10.213.NUMBER.0/24."""
    processes: list[subprocess.Popen] = field(default_factory=list)
    namespaces: list[str] = field(default_factory=list)

    @property
    def bridge(self) -> str:
        return f"rsb{self.number}"

    @property
    def key(self) -> Path:
        return self.directory / "key"

    def open(self) -> None:
        _ip(f"link add {self.bridge} type bridge")
        _ip(f"addr add 10.213.{self.number}.1/24 dev {self.bridge}")
        _ip(f"link set {self.bridge} up")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)

    def start(self, layer: Layer, shared: Sequence[Path]) -> str:
        """Start a host whose files are `layer` and which has the `shared` directories; returns its address."""
        last = 11 + len(self.namespaces)
        name, address = f"rs{self.number}h{last}", f"10.213.{self.number}.{last}"
        _ip(f"netns add {name}")
        self.namespaces.append(name)
        _ip(f"link add {name} type veth peer name eth0 netns {name}")
        _ip(f"link set {name} master {self.bridge} up")
        _ip(f"-n {name} addr add {address}/24 dev eth0")
        for device in ("lo", "eth0"):
            _ip(f"-n {name} link set {device} up")
        _ip(f"-n {name} route add default via 10.213.{self.number}.1")  # programs ask it which address is theirs
        ssh = layer.upper / "root/.ssh"
        ssh.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copy(f"{self.key}.pub", ssh / "authorized_keys")
        etc = layer.upper / "etc"
        etc.mkdir(exist_ok=True)
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n{address} {name}\n")
        (etc / "resolv.conf").write_text("nameserver 127.0.0.1\n")  # refused at once: there is no way out
        options = "-o UseDNS=no -o PermitRootLogin=yes -o MaxStartups=100 -o SetEnv=UV_OFFLINE=1"
        # The shell stays as the first process: it reaps what loses its parent.
        script = f"""{layer.mounts(shared)}
hostname {name}
chroot "$root" ssh-keygen -A
chroot "$root" /usr/sbin/sshd -D -e {options} &
wait"""
        isolated = ["unshare", "--mount", "--pid", "--fork", "--uts", "--kill-child", "bash", "-c", script]
        log = (self.directory / f"{name}.log").open("w")
        command = ["ip", "netns", "exec", name, *isolated]
        self.processes.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
        self._wait_for_ssh(address)
        return address

    def cut_off(self, address: str, to: str = "down") -> None:
        """Take a host's cable out, or put it back ("up")."""
        number = int(address.rpartition(".")[2])
        _ip(f"link set rs{self.number}h{number} {to}")

    def ssh(self, address: str, command: str) -> subprocess.CompletedProcess:
        options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ConnectTimeout=2"
        told = ["ssh", "-i", str(self.key), *options.split(), f"root@{address}", command]
        return subprocess.run(told, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)

    def _wait_for_ssh(self, address: str) -> None:
        for _ in range(60):
            if self.ssh(address, "true").returncode == 0:
                return
            time.sleep(0.5)
        logs = "".join(log.read_text()[-1500:] for log in self.directory.glob("*.log"))
        raise AssertionError(f"no ssh on {address}\n{logs}")

    def close(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # `unshare --kill-child` takes the whole namespace along
            process.wait()
        for name in self.namespaces:
            subprocess.run(["ip", "netns", "del", name], check=False)
        subprocess.run(["ip", "link", "del", self.bridge], check=False)


@contextlib.contextmanager
def network(directory: Path) -> Iterator[Network]:
    """A network without hosts, which is gone at the end, whatever happens."""
    opened = Network(directory=directory, number=os.getpid() % 250)
    try:
        opened.open()
        yield opened
    finally:
        opened.close()


def _ip(arguments: str) -> None:
    done = subprocess.run(["ip", *arguments.split()], capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"ip {arguments}: {done.stderr.strip()}")


def tool(name: str) -> str:
    """The path of a command that was installed beside this Python."""
    return str(Path(sys.executable).with_name(name))
