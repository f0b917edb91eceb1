//! Tells `--version` what is built in.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=migrations");
    let mut built_in = vec!["sqlite", "kafka"];
    let features = [
        ("CARGO_FEATURE_MYSQL", "mysql"),
        ("CARGO_FEATURE_POSTGRES", "postgres"),
        ("CARGO_FEATURE_KAFKA_TLS", "kafka-tls"),
    ];
    for (variable, name) in features {
        if std::env::var_os(variable).is_some() {
            built_in.push(name);
        }
    }
    println!("cargo::rustc-env=COINETL_FEATURES={}", built_in.join(", "));
}
