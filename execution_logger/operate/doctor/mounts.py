"""Which kind of file system a folder is on."""

from pathlib import Path

NETWORK = frozenset(
    ("9p", "afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "gfs2", "glusterfs",
     "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs")
)  # fmt: skip
"""Whose locks cannot be relied on, or whose writes wait for the network."""

VOLATILE = frozenset(("overlay", "ramfs", "tmpfs"))
"""Gone with the machine's or the container's end."""

_MOUNTS = Path("/proc/self/mounts")


def file_system(folder: Path, mounts: Path = _MOUNTS) -> str:
    """The kind of the file system that holds `folder`, as the kernel calls it; "" where it does not tell."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    found, longest = "", -1
    for line in lines:
        _, point, kind, *_ = line.split(" ")
        place = Path(point.replace("\\040", " "))
        # The last one of a place lies on top.
        if folder.resolve().is_relative_to(place) and len(place.parts) >= longest:
            found, longest = kind, len(place.parts)
    return found
