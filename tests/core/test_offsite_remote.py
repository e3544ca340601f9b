"""The text of a remote: what rclone is given, what people see, and which name it has."""

from pathlib import Path

import pytest

from dccd_core.config_sections import Remote
from dccd_core.offsite_remote import parse_remote, targets


@pytest.mark.parametrize(
    ("text", "name", "shown", "root", "section"),
    [
        ("nas:crypto/a", "nas-crypto-a", "nas:crypto/a", "nas:crypto/a", "nas"),
        ("my.nas:", "my-nas", "my.nas:", "my.nas:", "my.nas"),
        ("nas:/a:b", "nas-a-b", "nas:/a:b", "nas:/a:b", "nas"),
        ("nas,pass='a/b:c':x", "nas-x", "nas,…:x", "nas:x", "nas"),
        (":sftp,host=h,pass=p:x/y", "sftp-x-y", ":sftp,…:x/y", "dccdoffsite:x/y", None),
        ("/mnt/disk", "mnt-disk", "/mnt/disk", "/mnt/disk", None),
        ("/", "root", "/", "/", None),
    ],
)
def test_a_remote_is_read(text: str, name: str, shown: str, root: str, section: str | None) -> None:
    found = parse_remote(text)
    assert (found.name, found.shown, found.root, found.section) == (name, shown, root, section)
    assert found.problem is None


def test_options_become_variables() -> None:
    found = parse_remote(
        """:sftp,host=h,pass="say ""hi"", x:1",shell-type=none,disable_hashcheck:x"""
    )
    assert found.variables == {
        "RCLONE_CONFIG_DCCDOFFSITE_TYPE": "sftp",
        "RCLONE_CONFIG_DCCDOFFSITE_HOST": "h",
        "RCLONE_CONFIG_DCCDOFFSITE_PASS": 'say "hi", x:1',
        "RCLONE_CONFIG_DCCDOFFSITE_SHELL_TYPE": "none",
        "RCLONE_CONFIG_DCCDOFFSITE_DISABLE_HASHCHECK": "true",
    }
    assert found.secrets == ("h", 'say "hi", x:1', "none")
    named = parse_remote("nas,pass=geheim:x")
    assert named.variables == {"RCLONE_CONFIG_NAS_PASS": "geheim"}
    assert named.scrub("geheim http://me:pw@host/x") == "… http://…@host/x"


@pytest.mark.parametrize(
    "text",
    [
        "https://me:geheim@host/x",
        "me:geheim@host:/x",
        ":webdav,url=http://me:geheim@host:x",
        ":webdav,url=http://h,pass=geheim:x",
        ":sftp,pass='geheim:x",
        "sftp,host=nas,pass=geheim",
        "pass=geheim,host=nas",
    ],
)
def test_what_is_no_remote_is_not_repeated(text: str) -> None:
    found = parse_remote(text)
    assert found.problem is not None
    assert "geheim" not in f"{found.name} {found.shown} {found.root} {found.problem}"
    assert "host" not in f"{found.name} {found.shown}"


def test_a_folder_must_be_absolute() -> None:
    assert parse_remote("~/copies").local == Path.home() / "copies"
    assert parse_remote("nas/x").problem is not None
    assert parse_remote("nas,x").problem is not None


def test_every_remote_has_a_name_of_its_own() -> None:
    found = targets([Remote(remote=text) for text in ("nas:a", "nas:/a", "NAS:a", "nas:b")])
    names = [one.name for one in found]
    assert len({name.lower() for name in names}) == 4
    assert names[3] == "nas-b"
    assert all(name.lower().startswith("nas-a-") for name in names[:3])
