"""A small virtual machine that boots Debian's stock kernel over a tree of files: its root is read
over 9p and never written, what is written goes to memory and is gone afterwards.

Needs qemu-system-x86, busybox-static, kmod and apt (scripts/deps vm). Emulated, unless MYTUNNEL_KVM=1
says that /dev/kvm works: right and wrong can be told, and ratios, but no absolute speed.
"""

import contextlib
import glob
import lzma
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"),
                     "mytunnel-tests")
# To find the root; everything else the machine loads by itself from /lib/modules.
BOOT_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
PASSED_ON = ("PATH", "LANG", "MYTUNNEL_", "MT_", "ASAN_", "UBSAN_", "TSAN_")
TIME_IS_UP = 124
NOT_STARTED = 125
# A boot, an end, and what is written last.
CONSOLE_TAIL = 4000

INIT = r"""#!/bin/busybox sh
b=/bin/busybox
fail() { echo "machine: $*"; $b dmesg | $b tail -n 12; $b poweroff -f; }
$b mkdir -p /proc /sys /dev /ro /rw /r
$b mount -t proc proc /proc; $b mount -t sysfs sys /sys; $b mount -t devtmpfs dev /dev
for m in @MODULES@; do $b insmod /mod/$m || fail "module $m"; done
share() { $b mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,$3 "$1" "$2"; }
share root /ro cache=loose,ro || fail 'no root'
$b mount -t tmpfs -o size=75% tmpfs /rw; $b mkdir /rw/up /rw/work
$b mount -t overlay -o lowerdir=/ro,upperdir=/rw/up,workdir=/rw/work overlay /r || fail 'no overlay'
for d in proc sys dev run tmp; do $b mkdir -p /r/$d; done
for d in proc sys dev; do $b mount -o move /$d /r/$d; done
$b mkdir -p /r/dev/pts /r/dev/shm
$b mount -t tmpfs -o mode=755 tmpfs /r/run
modules=/r$($b readlink -f /r/usr/lib >/dev/null && echo /usr/lib)/modules
$b mkdir -p $modules /r/run/machine
share modules $modules cache=loose,ro || fail 'no modules'
share out /r/run/machine cache=none || fail 'no folder for results'
@LAST@
"""
# Without an init of its own: the command, and the end.
PLAIN = r"""$b mount -t devpts -o mode=620,ptmxmode=666 devpts /r/dev/pts
$b mount -t tmpfs -o mode=1777 tmpfs /r/dev/shm
$b mount -t cgroup2 cgroup2 /r/sys/fs/cgroup
exec $b chroot /r /bin/sh /run/machine/.start
"""
SYSTEMD = r"""$b umount /r/run/machine
$b mkdir -p /r/etc/systemd/system/multi-user.target.wants
$b cp /machine.service /r/etc/systemd/system/machine.service
$b ln -s ../machine.service /r/etc/systemd/system/multi-user.target.wants/machine.service
exec $b switch_root /r /lib/systemd/systemd systemd.show_status=0 || fail 'no systemd'
"""
# The folder for results comes back: systemd mounts a /run of its own where there is none.
UNIT = """[Unit]
Description=The command of this virtual machine
After=multi-user.target
[Service]
Type=exec
ExecStartPre=/bin/mkdir -p /run/machine
ExecStartPre=/bin/mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,cache=none out /run/machine
ExecStart=/bin/sh /run/machine/.start
LimitNOFILE=1048576
"""
START = r"""{environment}
export HOME=/root
hostname machine 2>/dev/null
ip link set lo up
[ "$(ulimit -n)" -ge 262144 ] || ulimit -n 262144
cd {folder} || exit 1
{command} >/run/machine/.log 2>&1 </dev/null
echo $? >/run/machine/.status
sync
echo o >/proc/sysrq-trigger
sleep 60
"""


class MachineError(Exception):
    """The machine cannot be started; the text says why."""


def fetch_kernel():
    """The folder with boot/ and lib/modules/ of Debian's kernel for this release, fetched once."""
    package = next((line.split()[1] for line in output(
        "apt-cache", "depends", "linux-image-amd64").splitlines() if "Depends: " in line), None)
    if not package:
        raise MachineError("apt knows no linux-image-amd64")
    folder = os.path.join(CACHE, package)
    if os.path.isdir(folder):
        return folder
    os.makedirs(CACHE, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        print(f"machine: fetching {package}", flush=True)
        output("apt-get", "-o", "APT::Sandbox::User=root", "download", package, cwd=work)
        new = os.path.join(work, "kernel")
        output("dpkg-deb", "-x", glob.glob(os.path.join(work, "*.deb"))[0], new)
        if not os.path.isdir(os.path.join(new, "lib")):
            os.symlink("usr/lib", os.path.join(new, "lib"))
        output(tool("depmod"), "-b", new, version_of(new))
        with contextlib.suppress(OSError):  # another run was faster
            os.rename(new, folder)
    return folder


def version_of(kernel):
    return os.listdir(os.path.join(kernel, "lib", "modules"))[0]


def output(*args, **kwargs):
    done = subprocess.run(args, check=False, text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)
    if done.returncode != 0:
        raise MachineError(f"{' '.join(args)}: {done.stderr.strip()}")
    return done.stdout


def tool(name):
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if not path:
        raise MachineError(f"{name} is missing (scripts/deps vm)")
    return path


def boot_modules(folder):
    """Files of BOOT_MODULES with what each needs before it, in the order of loading."""
    needs, files = {}, {}
    with open(os.path.join(folder, "modules.dep"), encoding="ascii") as file:
        for line in file:
            path, _, rest = line.partition(":")
            needs[path] = rest.split()
            files[os.path.basename(path).split(".")[0].replace("-", "_")] = path
    order = []

    def add(path):
        if path not in order:
            for other in reversed(needs[path]):
                add(other)
            order.append(path)

    for name in BOOT_MODULES:
        if name in files:  # else it is part of the kernel
            add(files[name])
    return order


class Archive:
    """A cpio archive in the form that the kernel unpacks."""

    def __init__(self):
        self.parts = []
        self.number = 0

    def add(self, name, data=b"", mode=0o100755):
        self.number += 1
        path = name.encode() + b"\0"
        fields = (self.number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields) + path
        self.parts.append(header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4))

    def bytes(self):
        self.add("TRAILER!!!", mode=0)
        return b"".join(self.parts)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def clear(out):
    for name in (".start", ".log", ".status"):
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(out, name))


class Machine:
    """`root` is the tree that it runs in, `systemd` whether that tree's systemd runs as init."""

    def __init__(self, root="/", systemd=False, memory_mb=3072, cpus=2):
        if platform.machine() != "x86_64":
            raise MachineError(f"made for x86_64, this is {platform.machine()}")
        self.root = root
        self.systemd = systemd
        self.memory_mb = memory_mb
        self.cpus = cpus
        self.qemu = tool("qemu-system-x86_64")
        self.busybox = tool("busybox")
        self.kernel = fetch_kernel()

    def _initrd(self, path):
        modules = os.path.join(self.kernel, "lib", "modules", version_of(self.kernel))
        archive = Archive()
        for name in ("bin", "mod"):
            archive.add(name, mode=0o40755)
        archive.add("bin/busybox", read(self.busybox))
        names = []
        for module in boot_modules(modules):
            data = read(os.path.join(modules, module))
            name = os.path.basename(module)
            if name.endswith(".xz"):
                name, data = name[:-3], lzma.decompress(data)
            names.append(name)
            archive.add(f"mod/{name}", data, 0o100644)
        init = INIT.replace("@MODULES@", " ".join(names)).replace(
            "@LAST@", SYSTEMD if self.systemd else PLAIN)
        archive.add("init", init.encode())
        archive.add("machine.service", UNIT.encode(), 0o100644)
        with open(path, "wb") as file:
            file.write(archive.bytes())

    def _qemu(self, work, out):
        def share(tag, path, *more):
            return ["-virtfs", ",".join(
                ("local", f"path={path}", f"mount_tag={tag}", "security_model=none", *more))]

        # Not by itself: a /dev/kvm inside of another virtual machine may be there and hang.
        kvm = os.environ.get("MYTUNNEL_KVM") == "1"
        return [
            self.qemu, *(["-accel", "kvm"] if kvm else ["-accel", "tcg,thread=multi"]),
            "-cpu", "host" if kvm else "max", "-smp", str(self.cpus), "-m", str(self.memory_mb),
            "-nodefaults", "-no-reboot", "-display", "none", "-device", "virtio-rng-pci",
            "-serial", f"file:{work}/console",
            *share("root", self.root, "readonly=on", "multidevs=remap"),
            *share("modules", os.path.join(self.kernel, "lib", "modules"), "readonly=on"),
            *share("out", out),
            "-kernel", glob.glob(os.path.join(self.kernel, "boot", "vmlinuz-*"))[0],
            "-initrd", os.path.join(work, "initrd"),
            "-append", "console=ttyS0 panic=-1 quiet audit=1 systemd.journald.forward_to_console=0"]

    def run(self, command, seconds, folder="/", environment=None, out=None, to=sys.stdout):
        """Boots, runs the command (a list) as root in `folder` of the root, passes its output on as it
        comes. What it leaves in /run/machine is in the folder `out` then. Returns its exit status,
        TIME_IS_UP or NOT_STARTED."""
        with tempfile.TemporaryDirectory(prefix="mytunnel-vm-") as work:
            out = out or os.path.join(work, "out")
            os.makedirs(out, exist_ok=True)
            clear(out)  # of a run that was ended
            exported = "\n".join(f"export {name}={shlex.quote(value)}"
                                 for name, value in (environment or {}).items())
            with open(os.path.join(out, ".start"), "w", encoding="utf-8") as file:
                file.write(START.format(environment=exported, folder=shlex.quote(folder),
                                        command=shlex.join(command)))
            self._initrd(os.path.join(work, "initrd"))
            with open(os.path.join(work, "qemu.log"), "wb") as log:
                process = subprocess.Popen(self._qemu(work, out), stdin=subprocess.DEVNULL,
                                           stdout=log, stderr=log)
            try:
                status = self._follow(process, out, seconds, to)
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)
                process.wait()
            if status in (TIME_IS_UP, NOT_STARTED):
                what = f"time is up after {seconds} s" if status == TIME_IS_UP else "it did not finish"
                for name in ("console", "qemu.log"):
                    with contextlib.suppress(OSError):
                        to.write(read(os.path.join(work, name)).decode("utf-8", "replace")
                                 [-CONSOLE_TAIL:])
                to.write(f"machine: {what}\n")
            clear(out)
            return status

    def _follow(self, process, out, seconds, to):
        deadline = time.monotonic() + seconds
        status_file = os.path.join(out, ".status")
        at = 0
        while True:
            ended = process.poll() is not None or os.path.exists(status_file)
            with contextlib.suppress(OSError):
                with open(os.path.join(out, ".log"), "rb") as log:
                    log.seek(at)
                    data = log.read()
                at += len(data)
                if data:
                    to.write(data.decode("utf-8", "replace"))
                    to.flush()
            if ended:
                break
            if time.monotonic() > deadline:
                return TIME_IS_UP
            time.sleep(0.2)
        try:
            # The status appears a moment before its text.
            for _ in range(50):
                text = read(status_file).strip()
                if text:
                    return int(text)
                time.sleep(0.1)
        except OSError:
            pass
        return NOT_STARTED


def passed_on():
    """The part of the environment that programs under test look at."""
    return {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
