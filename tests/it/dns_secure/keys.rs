//! The keys of the encrypted listeners: what is wrong is told with what would be right.

/// What a configuration is refused with.
fn problems(text: &str) -> Vec<String> {
    let error = icpgate::config::parse("t.toml", text, &[]).err().map(|error| error.to_string()).unwrap_or_default();
    error.lines().map(str::to_owned).collect()
}

#[test]
fn wrong_keys_are_told_with_what_is_right() {
    let table: [(&str, &[&str]); 3] = [
        (
            "tls = { listen = [\"127.0.0.1:853\"] }",
            &[
                "dns.tls.certificate = \"\": is needed by dns.tls.listen; expected the path of a PEM file of certificates",
                "dns.tls.key = \"\": is needed by dns.tls.listen; expected the path of a PEM file of the private key",
            ],
        ),
        (
            "listen = [\"127.0.0.1:853\"]\ntls = { listen = [\"127.0.0.1:853\"], certificate = \"c\", key = \"k\" }",
            &["t.toml:4:19: dns.tls.listen[0] = \"127.0.0.1:853\": is another listener's of the DNS plane as well"],
        ),
        (
            "https = { path = \"dns query\" }\nnsid = \"a\\nb\"",
            &[
                "t.toml:3:18: dns.https.path = \"dns query\": expected a path of visible ASCII characters",
                "t.toml:4:8: dns.nsid = \"a\\nb\": expected at most 128 octets without control characters",
            ],
        ),
    ];
    for (text, expected) in table {
        let found = problems(&format!("version = 1\n[dns]\n{text}\n")).join("\n");
        for line in expected {
            assert!(found.contains(line), "{text}: {line} is not in\n{found}");
        }
    }
    // QUIC has the port of its own that TLS has.
    let both = "tls = { listen = [\"127.0.0.1:853\"], certificate = \"c\", key = \"k\" }\n\
        quic = { listen = [\"127.0.0.1:853\"], certificate = \"c\", key = \"k\" }";
    assert_eq!(problems(&format!("version = 1\n[dns]\n{both}\n")), [""; 0]);
}
