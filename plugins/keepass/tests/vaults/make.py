#!/usr/bin/env python3
"""Makes the vaults in this folder anew. Needs keepassxc-cli 2.7 and pykeepass 4.2; README.md says what is in each.

KeePassXC writes each file last, but for those that are here because pykeepass writes differently. pykeepass only sets what
keepassxc-cli has no option for: the cipher, the key derivation and its cost.
"""

import base64
import os
import subprocess
import tempfile

from lxml import etree
from lxml.builder import E
from pykeepass import PyKeePass, create_database

ARGON2D = bytes.fromhex("ef636ddf8c29444b91f7a9a403e30a0c")
ARGON2ID = bytes.fromhex("9e298b1956db4773b23dfc3ec6f0a1e6")
AES = bytes.fromhex("c9d9f39a628a4460bf740d08c18a4fea")
ENV = dict(os.environ, QT_QPA_PLATFORM="offscreen", LC_ALL="C.UTF-8")
TMP = tempfile.TemporaryDirectory()


def cli(*args, lines=()):
    typed = "".join(line + "\n" for line in lines).encode()
    return subprocess.run(["keepassxc-cli", *args], input=typed, stdout=subprocess.PIPE, check=True, env=ENV)


class Vault:
    """A vault whose content KeePassXC writes."""

    def __init__(self, name, version, cipher, kdf, password=None, keyfile=None, compressed=True):
        self.path, self.password, self.keyfile = name + ".kdbx", password, keyfile
        if os.path.exists(self.path):
            os.remove(self.path)
        if version == 3:
            new = ["--set-key-file", keyfile] if keyfile else []
            new += ["-p"] if password else []
            cli("db-create", "-q", *new, self.path, lines=[password, password] if password else [])
            vault = PyKeePass(self.path, password=password, keyfile=keyfile)
            header = vault.kdbx.header.value.dynamic_header
            header.transform_rounds.data = kdf["R"]
            # It is of the old header, and KeePassXC checks it.
            for element in vault.tree.xpath("//HeaderHash"):
                element.getparent().remove(element)
        else:
            vault = create_database(self.path, password=password, keyfile=keyfile)
            header = vault.kdbx.header.value.dynamic_header
            parameters = header.kdf_parameters.data.dict
            kdf = dict(kdf)
            parameters["$UUID"].value = kdf.pop("id")
            if "R" in kdf:
                for argon2 in "MPV":
                    del parameters[argon2]
                parameters["I"].key = "R"
                parameters["R"] = parameters.pop("I")
            for name, value in kdf.items():
                parameters[name].value = value
            last = list(parameters.values())[-1]
            for item in parameters.values():
                item.next_byte = 0 if item is last else 1
        header.cipher_id.data = cipher
        header.compression_flags.data.compression = compressed
        vault.save()

    def run(self, command, *args, lines=()):
        with_keyfile = ["-k", self.keyfile] if self.keyfile else []
        without_password = [] if self.password else ["--no-password"]
        password = [self.password] if self.password else []
        cli(command, "-q", *with_keyfile, *without_password, *args, lines=password + list(lines))

    def groups(self, *paths):
        for path in paths:
            self.run("mkdir", self.path, path)

    def add(self, path, password, *options):
        self.run("add", *options, "-p", self.path, path, lines=[password])

    def attach(self, path, name, content):
        file = os.path.join(TMP.name, "attached")
        with open(file, "wb") as out:
            out.write(content)
        self.run("attachment-import", self.path, path, name, file)

    def merge(self, *entries):
        """Adds entries with fields that keepassxc-cli cannot set, by way of XML. `*` marks a protected field."""
        elements = []
        for fields in entries:
            entry = E.Entry(uuid())
            for key, value in fields.items():
                protected = {"ProtectInMemory": "True"} if key.startswith("*") or key == "Password" else {}
                entry.append(E.String(E.Key(key.removeprefix("*")), E.Value(value, protected)))
            elements.append(entry)
        self.merge_xml(E.Meta(), *elements)

    def merge_xml(self, meta, *elements):
        group = E.Group(uuid(), E.Name("Root"), *elements)
        xml, other = os.path.join(TMP.name, "content.xml"), os.path.join(TMP.name, "content.kdbx")
        with open(xml, "wb") as out:
            out.write(etree.tostring(E.KeePassFile(meta, E.Root(group)), xml_declaration=True, encoding="utf-8"))
        if os.path.exists(other):
            os.remove(other)
        cli("import", "-q", "-p", xml, other, lines=["merge", "merge"])
        self.run("merge", self.path, other, lines=["merge"])


def uuid(number=None):
    return E.UUID(base64.b64encode(os.urandom(16) if number is None else bytes([number] * 16)).decode())


def argon2(kind, iterations=2, memory=64 * 1024, lanes=2):
    return {"id": kind, "I": iterations, "M": memory, "P": lanes}


def keyfiles():
    if not os.path.exists("xml2.keyx"):
        vault = os.path.join(TMP.name, "keyfile.kdbx")
        cli("db-create", "-q", "--set-key-file", "xml2.keyx", vault)
    with open("xml1.key", "w") as out:
        out.write('<?xml version="1.0" encoding="utf-8"?>\n<KeyFile>\n\t<Meta>\n\t\t<Version>1.00</Version>\n\t</Meta>\n')
        out.write("\t<Key>\n\t\t<Data>AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=</Data>\n\t</Key>\n</KeyFile>\n")
    with open("raw.key", "wb") as out:
        out.write(bytes(range(128, 160)))
    with open("hex.key", "w") as out:
        out.write("00112233445566778899aAbBcCdDeEfF" * 2)
    with open("hashed.key", "w") as out:
        out.write("any file at all\n")


def main():
    keyfiles()

    vault = Vault("kdbx31-aes", 3, "aes256", {"R": 600}, password="open sesame")
    vault.groups("services", "services/test")
    vault.add("services/test/db", "s3cret of kdbx31-aes", "-u", "loom", "--url", "https://db.test/", "--notes", "made\nby hand")

    vault = Vault("kdbx31-twofish-both", 3, "twofish", {"R": 601}, password="open sesame", keyfile="xml2.keyx")
    vault.groups("services", "services/test")
    vault.add("services/test/db", "s3cret of kdbx31-twofish-both", "-u", "loom")
    vault.attach("services/test/db", "ca.pem", b"-----BEGIN-----\nAAAA\n-----END-----\n")
    vault.attach("services/test/db", "bytes", bytes(range(256)))

    vault = Vault("kdbx31-chacha20-keyfile", 3, "chacha20", {"R": 602}, keyfile="hashed.key")
    vault.add("db", "s3cret of kdbx31-chacha20-keyfile", "-u", "loom")

    vault = Vault("kdbx40-aes-aeskdf", 4, "aes256", {"id": AES, "R": 603}, password="пароль ✓")
    vault.add("db", "s3cret of kdbx40-aes-aeskdf", "-u", "loom")

    vault = Vault("kdbx40-chacha20-argon2d-xml1", 4, "chacha20", argon2(ARGON2D), keyfile="xml1.key")
    vault.add("db", "s3cret of kdbx40-chacha20-argon2d-xml1", "-u", "loom")

    vault = Vault("kdbx40-twofish-argon2id-raw", 4, "twofish", argon2(ARGON2ID, lanes=1), password="open sesame", keyfile="raw.key")
    vault.add("db", "s3cret of kdbx40-twofish-argon2id-raw", "-u", "loom")

    vault = Vault("kdbx40-uncompressed", 4, "twofish", argon2(ARGON2D), password="open sesame", compressed=False)
    vault.add("db", "s3cret of kdbx40-uncompressed", "-u", "loom")

    # A move is what makes KeePassXC write 4.1: it notes where the entry was.
    vault = Vault("kdbx41-chacha20-argon2id-hex", 4, "chacha20", argon2(ARGON2ID, lanes=4), keyfile="hex.key")
    vault.groups("old", "new")
    vault.add("old/db", "s3cret of kdbx41-chacha20-argon2id-hex", "-u", "loom")
    vault.run("mv", vault.path, "old/db", "new")

    vault = Vault("kdbx41-aes-argon2d-hashed", 4, "aes256", argon2(ARGON2D, iterations=3), password="open sesame", keyfile="hashed.key")
    vault.groups("old", "new")
    vault.add("old/db", "s3cret of kdbx41-aes-argon2d-hashed", "-u", "loom")
    vault.run("mv", vault.path, "old/db", "new")

    vault = Vault("unicode", 4, "aes256", argon2(ARGON2ID), password="open sesame")
    vault.groups("ключи", "ключи/日本語 🗝")
    vault.add("ключи/日本語 🗝/büro & <co> \"x\"", "пароль 🐙 ]]> &amp;", "-u", "Ωμέγα", "--notes", "первая\n\tвторая\n")

    vault = Vault("paths", 4, "chacha20", argon2(ARGON2ID), password="open sesame")
    vault.groups("services", "services/test", "services/prod", "db", "a", "a/b", "a/b/c", "a/b/c/d", "a/b/c/d/e", "many")
    vault.groups(*(f"many/{number}" for number in range(12)))
    vault.add("services/test/db", "of services/test/db")
    vault.add("services/prod/db", "of services/prod/db")
    vault.add("services/prod/only", "of services/prod/only")
    vault.add("db/db", "of db/db")
    vault.add("test", "of test")
    vault.add("services/test/test", "of services/test/test")
    vault.add("a/b/c/d/e/deep", "of a/b/c/d/e/deep")
    vault.merge(
        {"Title": "https://user@example.com:8443/x", "Password": "of a title with slashes"},
        {"Title": "twin", "Password": "of the first twin"},
        {"Title": "twin", "Password": "of the second twin"},
        {"Title": "copy", "Password": "{REF:P@I:46C9B1FFBD4ABC4BBB260C6190BAD20C}"},
    )
    for number in range(12):
        vault.add(f"many/{number}/same", f"of {number}")

    vault = Vault("recycled", 4, "aes256", argon2(ARGON2D), password="open sesame")
    vault.groups("kept", "gone")
    vault.add("kept/db", "first of kept/db")
    vault.run("edit", "-p", vault.path, "kept/db", lines=["second of kept/db"])
    vault.run("edit", "-t", "base", "-p", vault.path, "kept/db", lines=["third of kept/base"])
    vault.add("gone/db", "of gone/db")
    vault.add("gone/other", "of gone/other")
    vault.run("rm", vault.path, "gone/other")
    vault.run("rmdir", vault.path, "gone")

    vault = Vault("fields", 4, "chacha20", argon2(ARGON2ID), password="open sesame")
    vault.merge(
        {
            "Title": "app", "UserName": "", "Password": "of app", "URL": "https://app.test/", "Notes": "",
            "*token": "of token", "plain": "of plain", "*Password 2": "of Password 2", "*empty": "",
            "*key.pem": "-----BEGIN-----\r\n  AAAA\n-----END-----\n", "notes.pem": "-----BEGIN-----\n  AAAA\n-----END-----\n",
            "*PIN": " 0042 ", "токен": "значение",
        },
    )

    vault = Vault("attachments", 4, "aes256", argon2(ARGON2ID), password="open sesame")
    vault.add("first", "of first")
    vault.attach("first", "id.txt", b"text of id.txt\n")
    vault.attach("first", "all bytes.bin", bytes(range(256)) * 4)
    vault.attach("first", "empty", b"")
    vault.add("second", "of second")
    vault.attach("second", "id.txt", b"another text\n")
    vault.attach("second", "same", bytes(range(256)) * 4)

    vault = Vault("otp", 4, "aes256", argon2(ARGON2ID), password="open sesame")
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    url = f"otpauth://totp/Loom:ci?secret={secret}&period=30&digits=6&issuer=Loom"
    vault.merge(
        {"Title": "plain", "*otp": url},
        {"Title": "sha256", "*otp": url.replace("digits=6", "digits=8") + "&algorithm=SHA256"},
        {"Title": "sha512", "*otp": url.replace("period=30", "period=60") + "&algorithm=SHA512"},
        {"Title": "steam", "*otp": url + "&encoder=steam"},
        {"Title": "seed", "*TOTP Seed": "GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ", "TOTP Settings": "30;8"},
        {"Title": "none", "Password": "of none"},
        {"Title": "wrong", "*otp": "s3cret that is no URL"},
    )

    # All that an entry and a group can have besides fields.
    vault = Vault("everything", 4, "chacha20", argon2(ARGON2ID), password="open sesame")
    icon = base64.b64encode(b"no picture, but nobody looks").decode()
    vault.merge_xml(
        E.Meta(E.CustomIcons(E.Icon(uuid(9), E.Data(icon)))),
        E.Group(
            uuid(), E.Name("group"), E.Notes("notes of the group"), E.IconID("37"),
            E.CustomIconUUID(uuid(9).text), E.Tags("of;group"), E.IsExpanded("False"), E.DefaultAutoTypeSequence("{PASSWORD}"),
            E.EnableAutoType("False"), E.EnableSearching("False"),
            E.CustomData(E.Item(E.Key("key of the group"), E.Value("value of the group"))),
            E.Entry(
                uuid(), E.IconID("12"), E.CustomIconUUID(uuid(9).text), E.ForegroundColor("#112233"),
                E.BackgroundColor("#445566"), E.OverrideURL("cmd://true"), E.Tags("one;two, three"),
                E.QualityCheck("False"),
                E.Times(
                    E.LastModificationTime("2020-01-02T03:04:05Z"), E.CreationTime("2019-01-02T03:04:05Z"),
                    E.LastAccessTime("2021-01-02T03:04:05Z"), E.ExpiryTime("2037-01-02T03:04:05Z"), E.Expires("True"),
                    E.UsageCount("7"), E.LocationChanged("2018-01-02T03:04:05Z"),
                ),
                E.String(E.Key("Title"), E.Value("all")),
                E.String(E.Key("Password"), E.Value("of all", {"ProtectInMemory": "True"})),
                E.AutoType(
                    E.Enabled("True"), E.DataTransferObfuscation("1"), E.DefaultSequence("{USERNAME}"),
                    E.Association(E.Window("window"), E.KeystrokeSequence("{TAB}")),
                ),
                E.CustomData(E.Item(E.Key("key"), E.Value("value"))),
            ),
        ),
    )
    vault.add("gone", "of gone")
    vault.run("rm", vault.path, "gone")
    vault.run("rm", vault.path, "Recycle Bin/gone")
    vault.run("edit", "-p", vault.path, "group/all", lines=["of all, anew"])

    # What pykeepass writes: the fields of an entry are not all in one place.
    vault = Vault("pykeepass", 4, "aes256", argon2(ARGON2ID), password="open sesame")
    made = PyKeePass(vault.path, password="open sesame")
    entry = made.add_entry(made.add_group(made.root_group, "services"), "db", "loom", "of db")
    entry.set_custom_property("token", "of token", protect=True)
    entry.password = "of db, anew"
    entry.set_custom_property("plain", "of plain")
    made.add_entry(made.root_group, "other", "", "of other")
    made.save()

    # Also pykeepass: a protected field that stands after the older versions in the file.
    vault = Vault("pykeepass-history", 4, "aes256", argon2(ARGON2ID), password="open sesame")
    made = PyKeePass(vault.path, password="open sesame")
    entry = made.add_entry(made.root_group, "db", "loom", "the first password of db")
    entry.save_history()
    entry.password = "the second password of db"
    made.save()


main()
