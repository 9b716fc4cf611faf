//! Configurations as they are shown, and what is refused in them.

use super::*;

fn faults(body: &str) -> Vec<String> {
    let faults = configuration(body.as_bytes()).expect_err(body);
    faults.iter().map(ToString::to_string).collect()
}

fn read(body: &str) -> ChangeRequest {
    configuration(body.as_bytes()).expect(body)
}

#[test]
fn what_is_shown_is_taken_back() {
    let request = read(
        r#"{"Provider":"consul","Config":{"LeafCertTTL":"2h","IntermediateCertTTL":
        "8760h","RootCertTTL":"87600h0m0s","CSRMaxPerSecond":7,"CSRMaxConcurrent":0,"PrivateKeyType":"ec","PrivateKeyBits":256},
        "State":null,"ForceWithoutCrossSigning":false,"CreateIndex":1,"ModifyIndex":2}"#,
    );
    assert_eq!(request.settings.leaf_lifetime, Some(Span::seconds(7200)));
    assert_eq!(request.settings.signatures_per_second(), 7);
    assert!(matches!(request.provider, WantedProvider::BuiltIn(Some(KeyKind::EcP256))));
    assert!(!request.force && !request.renew);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    assert_eq!(
        faults(
            r#"{"Provider":"aws-pca","Config":{"LeafCertTTL":"soon","PrivateKeyType":"dsa",
            "RotationPeriod":"1h","CSRMaxPerSecond":0.5,"CSRMaxConcurrent":1,"Token":"x","RootCert":"y"},
            "ForceWithoutCrossSigning":"yes","Else":1}"#
        ),
        [
            "Else: is not known; remove it",
            "ForceWithoutCrossSigning: must be true or false",
            "Provider: must be \"consul\", which is built in, or \"vault\"",
            "Config.CSRMaxConcurrent: is not known; write CSRMaxPerSecond instead",
            "Config.RotationPeriod: is not known; remove it",
            "Config.Token: is for the provider \"vault\" alone; remove it",
            "Config.LeafCertTTL: \"soon\" is not a duration; write a number with a unit, such as \
             \"10s\", \"1m30s\", \"500ms\"",
            "Config.CSRMaxPerSecond: must be a whole number; 0 is for any number",
            "Config.PrivateKeyType: must be \"ec\" with 256 or 384 bits, \"rsa\" with 2048 or \
             4096, or \"ed25519\"",
            "Config.PrivateKey: is missing: that of RootCert, or of IntermediateCert",
        ]
    );
}

#[test]
fn vault_is_read_with_each_way_of_logging_in() {
    let of = |auth: &str| {
        let body = format!(
            r#"{{"Provider":"vault","Config":{{"Address":"https://vault:8200",
            "RootPKIPath":"/pki/root/","IntermediatePKIPath":"x","Namespace":"team"{auth}}}}}"#
        );
        match read(&body).provider {
            WantedProvider::Vault { access, secret, .. } => (access, secret),
            other => panic!("{other:?}"),
        }
    };
    let (access, secret) = of(r#","Token":"t""#);
    assert_eq!((access.root_path.as_str(), access.namespace.as_str()), ("pki/root", "team"));
    assert_eq!((access.auth, secret.as_deref()), (VaultAuth::Token, Some("t")));
    let method = r#","AuthMethod":{"Type":"approle","Params":{"role_id":"r","secret_id":"s"}}"#;
    let (access, secret) = of(method);
    assert_eq!(secret.as_deref(), Some("s"));
    let (mount, role_id) = ("approle".to_owned(), "r".to_owned());
    assert_eq!(access.auth, VaultAuth::AppRole { mount, role_id });
    let (access, secret) = of(r#","AuthMethod":{"Type":"kubernetes","Params":{"role":"weft"}}"#);
    assert_eq!(secret, None);
    assert!(matches!(access.auth, VaultAuth::Kubernetes { path, .. } if path == POD_TOKEN));
    let (access, _) = of(r#","AuthMethod":{"Type":"jwt","Params":{"role":"w","path":"/j"}}"#);
    assert!(matches!(access.auth, VaultAuth::Jwt { path, .. } if path == "/j"));
}

#[test]
fn what_vault_cannot_be_asked_with_is_refused_by_name() {
    assert_eq!(
        faults(
            r#"{"Provider":"vault","Config":{"Address":"vault:8200","RootPKIPath":"../sys",
            "RootCert":"x","Token":"t","AuthMethod":{"Type":"approle","MountPath":"a?b"}}}"#
        ),
        [
            "Config.RootCert: is for the provider \"consul\" alone; remove it",
            "Config.Address: must be a URL such as \"https://vault.example:8200\"",
            "Config.RootPKIPath: must be the path of a mount such as \"pki\"",
            "Config.Token: and AuthMethod exclude each other; remove one",
            "Config.AuthMethod.MountPath: must be the path of a mount such as \"approle\"",
            "Config.AuthMethod.Params.role_id: is missing",
        ]
    );
    let told = faults(
        r#"{"Provider":"vault","Config":{"Address":"https://v","RootPKIPath":"pki",
        "AuthMethod":{"Type":"aws"}}}"#,
    );
    assert!(told[0].starts_with("Config.AuthMethod.Type: must be"), "{told:?}");
}

#[test]
fn a_rotation_needs_nothing_to_be_said() {
    assert_eq!(rotation(b"").expect("nothing"), (None, false));
    let said =
        br#"{"PrivateKeyType":"rsa","PrivateKeyBits":"4096","ForceWithoutCrossSigning":true}"#;
    assert_eq!(rotation(said).expect("read"), (Some(KeyKind::Rsa4096), true));
    assert!(rotation(br#"{"Else":1}"#).is_err());
}
