//! The registry's snapshot file with a signature: taken by its key alone, and never overwritten by a gate that asks for one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use icpgate::registry::saved::{self, Circumstances, PublicKeys, SavedError, SigningKey};
use icpgate::registry::{Settings, Shrink, Store};
use tempfile::TempDir;

use crate::harness::program::{DNS, Run, icpgate_in};

/// Of `openssl genpkey -algorithm ed25519`, made for these tests.
const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIPjOj0DKrlQJHrvAM9qHrcOvWb7RkEHixNdNFkVLOiA5
-----END PRIVATE KEY-----
";
/// Its other half, of `openssl pkey -pubout`.
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAUSPhzWxOFYTrcNsMM2JCeibBzr6TSYqG8JcmuV/iYAg=
-----END PUBLIC KEY-----
";
/// Of another pair.
const OTHER_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAdmefls1+1b4ebXBMnp0q7VdqeDypZ3iaOhPow08uwro=
-----END PUBLIC KEY-----
";
/// A key that cannot sign.
const X25519_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VuBCIEIJCKaoqEjzjBHJfMWSkWEugKdO4Mue1vWPa+jyBlTA5A
-----END PRIVATE KEY-----
";
/// Its other half.
const X25519_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VuAyEARb/SlwBFfKsoy69MDejaj0NTVICPMmtFMclVVn8SUXM=
-----END PUBLIC KEY-----
";

/// A directory with a table and keys.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let res = Self(TempDir::new().expect("a directory"));
        let rows: String = (0..500).map(|n| format!("d{n}.cn,京ICP备2021{n:06}号-1,self,active\n")).collect();
        fs::write(res.at("rows.csv"), format!("domain,site_no,access,status\n{rows}")).expect("writes");
        for (name, text) in [("key.pub", PUBLIC), ("other.pub", OTHER_PUBLIC), ("x.pub", X25519_PUBLIC)] {
            fs::write(res.at(name), text).expect("writes");
        }
        let tags = "prefix,region,provider,product,origin\n203.0.113.0/24,mainland,self,ecs,\n";
        fs::write(res.at("tags.csv"), tags).expect("writes");
        fs::write(res.at("both.pub"), format!("{OTHER_PUBLIC}{PUBLIC}")).expect("writes");
        res.secret("key.pem", PRIVATE, 0o600);
        res
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn secret(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.at(name), text).expect("writes");
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(mode)).expect("sets the mode");
    }

    fn keys(&self, name: &str) -> PublicKeys {
        PublicKeys::read(&self.at(name)).expect("public keys")
    }

    fn store(&self, keys: Option<&str>) -> Store {
        let settings = Settings::new("self", vec![self.at("rows.csv")]);
        let snapshot_keys = keys.map(|name| self.keys(name));
        let store = Store::new(Settings { snapshot: Some(self.at("copy")), snapshot_keys, ..settings });
        store.reload(SystemTime::now(), Shrink::Refuse);
        assert_eq!(store.loaded().expect("a state").snapshot.len(), 500);
        store
    }

    fn signed(&self) -> PathBuf {
        let key = SigningKey::read(&self.at("key.pem")).expect("a private key");
        assert!(self.store(None).save_signed(&self.at("copy"), &key).expect("writes"));
        self.at("copy")
    }

    /// Runs the program with this configuration of the registry.
    fn run(&self, registry: &str, arguments: &[&str]) -> Run {
        let rows = self.at("rows.csv");
        let text =
            format!("version = 1\n[registry]\npaths = [{rows:?}]\n{registry}\n[ranges]\ntags = [\"tags.csv\"]\n{DNS}");
        fs::write(self.at("icpgate.toml"), text).expect("writes");
        icpgate_in(self.0.path(), &[arguments, &["--config", "icpgate.toml"]].concat())
    }
}

fn ours() -> Circumstances {
    let year = icpgate::model::Day::at(SystemTime::now()).year();
    Circumstances { provider: "self".to_owned(), encoding: "utf-8", suffix_hash: 0, year }
}

fn refusal(file: &Path, keys: &PublicKeys) -> String {
    saved::read_signed(file, &ours(), keys).err().expect("a refusal").to_string()
}

#[test]
fn a_signed_file_is_taken_by_its_key_alone() {
    let place = Place::new();
    let file = place.signed();
    for (keys, is_taken) in
        [(Some("key.pub"), true), (Some("both.pub"), true), (Some("other.pub"), false), (None, true)]
    {
        assert_eq!(place.store(keys).is_unverified(), is_taken, "{keys:?}");
    }
    let message = refusal(&file, &place.keys("other.pub"));
    let id = |name: &str| place.keys(name).to_string();
    for part in ["is signed by ", &id("key.pub"), "expected one of ", &id("other.pub"), "other.pub"] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn a_file_without_signature_is_refused_where_a_key_is_set() {
    let place = Place::new();
    assert!(place.store(None).save().expect("writes"));
    assert!(place.store(None).is_unverified());
    assert!(!place.store(Some("key.pub")).is_unverified(), "the tables are loaded instead");
    let message = refusal(&place.at("copy"), &place.keys("key.pub"));
    assert!(message.contains("has no signature; expected one by ") && message.contains("compile --sign"), "{message}");
}

#[test]
fn a_server_that_asks_for_signatures_writes_no_file() {
    let place = Place::new();
    let file = place.signed();
    let before = fs::read(&file).expect("octets");
    let store = place.store(Some("key.pub"));
    store.tidy_always().expect("a new generation");
    assert!(!store.save().expect("nothing to write"));
    assert_eq!(fs::read(&file).expect("octets"), before);
    fs::remove_file(&file).expect("removes");
    assert!(!place.store(Some("key.pub")).save().expect("nothing to write") && !file.exists());
}

/// Writes octets anew with checksums that fit, as whoever knows the format can.
fn with_checksums(mut octets: Vec<u8>) -> Vec<u8> {
    use siphasher::sip128::SipHasher13;
    let sum = |octets: &[u8]| {
        let hash = SipHasher13::new_with_keys(3, 4).hash(octets);
        ((u128::from(hash.h1) << 64) | u128::from(hash.h2)).to_le_bytes()
    };
    let long = |octets: &[u8]| usize::try_from(u64::from_le_bytes(octets.try_into().expect("eight"))).expect("small");
    let count = u32::from_le_bytes(octets[12..16].try_into().expect("four")) as usize;
    for line in (0..count).map(|n| 16 + n * 40) {
        let (place, length) = (long(&octets[line + 8..line + 16]), long(&octets[line + 16..line + 24]));
        let sum = sum(&octets[place..place + length]);
        octets[line + 24..line + 40].copy_from_slice(&sum);
    }
    let end = 16 + count * 40;
    let whole = sum(&octets[..end]);
    octets[end..end + 16].copy_from_slice(&whole);
    octets
}

#[test]
fn a_forgery_with_sound_checksums_is_refused() {
    let place = Place::new();
    let file = place.signed();
    let keys = place.keys("key.pub");
    let whole = fs::read(&file).expect("octets");
    assert_eq!(with_checksums(whole.clone()), whole, "the test knows the format");
    let count = u32::from_le_bytes(whole[12..16].try_into().expect("four")) as usize;
    let sections_begin = 16 + count * 40 + 16;
    let step = (whole.len() - sections_begin) / 100;
    for at in (sections_begin..whole.len()).step_by(step) {
        let mut forged = whole.clone();
        forged[at] ^= 1 << (at % 8);
        fs::write(&file, with_checksums(forged)).expect("writes");
        let error = saved::read_signed(&file, &ours(), &keys).err().expect("a refusal");
        let is_told = matches!(error, SavedError::Forged | SavedError::SignedByAnother { .. });
        assert!(is_told, "octet {at} of {}: {error}", whole.len());
    }
    // Kinds, numbers and the order of sections are signed as well.
    for (at, other) in [(16, 40 + 16), (20, 60), (16 + 40 * (count - 1), 16)] {
        let mut forged = whole.clone();
        forged.swap(at, other);
        if forged == whole {
            forged[at] ^= 1;
        }
        fs::write(&file, with_checksums(forged)).expect("writes");
        assert!(saved::read_signed(&file, &ours(), &keys).is_err(), "octet {at}");
    }
    // The last line of the section table is the signature's own: without it the file has none, twice is once too often.
    let mut unsigned = whole.clone();
    unsigned[12..16].copy_from_slice(&u32::try_from(count - 1).expect("few").to_le_bytes());
    fs::write(&file, with_checksums(unsigned)).expect("writes");
    let message = refusal(&file, &keys);
    assert!(message.contains("has no signature"), "{message}");
    let mut doubled = whole.clone();
    let signature: Vec<u8> = whole[16 + 40 * (count - 1)..16 + 40 * count].to_vec();
    doubled[16..56].copy_from_slice(&signature);
    fs::write(&file, with_checksums(doubled)).expect("writes");
    let message = refusal(&file, &keys);
    assert!(message.contains("two signatures"), "{message}");
    // A store goes on with the tables.
    assert!(!place.store(Some("key.pub")).is_unverified());
}

#[test]
fn keys_that_do_not_fit_are_refused_with_what_would() {
    let place = Place::new();
    place.secret("open.pem", PRIVATE, 0o604);
    place.secret("x.pem", X25519_PRIVATE, 0o600);
    place.secret("encrypted.pem", &PRIVATE.replace("PRIVATE", "ENCRYPTED PRIVATE"), 0o600);
    place.secret("broken.pem", &PRIVATE.replace("MC4CAQAw", "MC4CAQ!w"), 0o600);
    place.secret("long.pem", &"#\n".repeat(100_000), 0o600);
    for (name, expected) in [
        ("none.pem", "No such file"),
        ("open.pem", "mode 0604 lets every user of this machine read it; expected 0600"),
        ("x.pem", "is no Ed25519 key"),
        ("encrypted.pem", "openssl genpkey -algorithm ed25519"),
        ("broken.pem", "is no PEM file"),
        ("long.pem", "is longer than"),
        ("key.pub", "holds no PRIVATE KEY"),
    ] {
        if name == "key.pub" {
            place.secret(name, PUBLIC, 0o600);
        }
        let message = SigningKey::read(&place.at(name)).expect_err(name).to_string();
        assert!(message.contains(expected) && message.contains(name), "{name}: {message}");
        assert!(!message.contains("MC4C"), "a message shows no key: {message}");
    }
    for (name, expected) in [
        ("none.pub", "No such file"),
        ("x.pub", "is no Ed25519 key"),
        ("key.pem", "holds no PUBLIC KEY"),
        ("key.pem", "openssl pkey -in KEYFILE -pubout"),
    ] {
        let message = PublicKeys::read(&place.at(name)).expect_err(name).to_string();
        assert!(message.contains(expected) && message.contains(name), "{name}: {message}");
    }
}

#[test]
fn compile_signs() {
    let place = Place::new();
    let compile =
        |registry: &str, arguments: &[&str]| place.run(registry, &[&["registry", "compile"], arguments].concat());
    let keyed = "snapshot = \"copy\"\nsnapshot-key = \"key.pub\"";
    let id = place.keys("key.pub").to_string();
    compile(keyed, &["--sign", "key.pem"]).expect(0, &["copy: 500 rows, ", "signed by ", &id]);
    assert!(place.store(Some("key.pub")).is_unverified(), "it came out of the copy");
    let before = fs::read(place.at("copy")).expect("octets");
    // What a gate would refuse is not written where it looks for it.
    compile(keyed, &[]).expect(2, &["registry.snapshot-key", "--sign KEYFILE"]);
    let other = "snapshot = \"copy\"\nsnapshot-key = \"other.pub\"";
    compile(other, &["--sign", "key.pem"]).expect(2, &["key.pem", &id, "registry.snapshot-key", "other.pub"]);
    assert_eq!(fs::read(place.at("copy")).expect("octets"), before);
    compile("", &["--out", "elsewhere", "--sign", "key.pem"]).expect(0, &["elsewhere: 500 rows"]);
    compile(keyed, &["--out", "plain"]).expect(0, &["plain: 500 rows"]);
    place.secret("open.pem", PRIVATE, 0o644);
    compile(keyed, &["--sign", "open.pem"]).expect(2, &["open.pem", "0644", "0600"]);
    compile(keyed, &["--help"]).expect(0, &["--sign <KEYFILE>"]);
}

#[test]
fn the_configured_key_is_checked() {
    let place = Place::new();
    let keyed = "snapshot = \"copy\"\nsnapshot-key = \"key.pub\"";
    place.run(keyed, &["check"]).expect(0, &["good"]);
    place.run("snapshot = \"copy\"", &["registry", "compile"]).expect(0, &[]);
    place.run(keyed, &["check"]).expect(1, &["registry.snapshot: not used: copy: has no signature; expected one by "]);
    place.run(keyed, &["registry", "lint", "rows.csv"]).expect(0, &["good"]);
    place.run(keyed, &["registry", "compile", "--sign", "key.pem"]).expect(0, &[]);
    place.run(keyed, &["check"]).expect(0, &["good"]);
    place
        .run("snapshot = \"copy\"\nsnapshot-key = \"key.pem\"", &["check"])
        .expect(2, &["registry.snapshot-key", "key.pem", "holds no PUBLIC KEY"]);
    place
        .run("snapshot-key = \"key.pub\"", &["check"])
        .expect(1, &["registry.snapshot-key", "registry.snapshot is empty"]);
}
