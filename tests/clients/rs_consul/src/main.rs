//! The Rust client `rs-consul` against a cluster of Weft's: `rs-consul-client ADDRESS TOKEN NODE`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rs_consul::{
    ACLTokenPolicyLink, Config, Consul, ConsulError, CreateACLPolicyRequest, CreateACLTokenPayload,
    CreateOrUpdateKeyRequest, DeleteKeyRequest, DeregisterEntityPayload, GetNodesRequest,
    GetServiceNodesRequest, LockExpirationBehavior, LockRequest, LockWatchRequest, QueryOptions,
    ReadKeyRequest, RegisterEntityCheck, RegisterEntityPayload, RegisterEntityService,
    types::ConsistencyMode,
};

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, token, node] = &args[..] else { return Err("ADDRESS TOKEN NODE".into()) };
    let client_with = |token: &str| {
        let (address, token) = (format!("http://{address}"), Some(token.to_owned()));
        Consul::new(Config { address, token, ..Config::default() })
    };
    let client = client_with(token);
    let began = Instant::now();
    let told = |step: &str| println!("{step}: done at {} ms", began.elapsed().as_millis());
    keys(&client).await?;
    told("keys");
    waits(&client, &client_with(token)).await?;
    told("waits");
    locks(&client).await?;
    told("locks");
    catalog(&client, node).await?;
    told("catalog");
    access(&client, client_with).await?;
    told("access");
    println!("rs-consul agrees");
    Ok(())
}

async fn read(client: &Consul, key: &str) -> Result<Vec<Option<String>>, ConsulError> {
    let request = ReadKeyRequest { key, ..Default::default() };
    let found = client.read_key(request).await?;
    assert!(found.index > 0);
    Ok(found.response.into_iter().map(|entry| entry.value).collect())
}

async fn write(client: &Consul, key: &str, value: &str) -> Result<bool, ConsulError> {
    let request = CreateOrUpdateKeyRequest { key, ..Default::default() };
    Ok(client.create_or_update_key(request, value.into()).await?.0)
}

async fn keys(client: &Consul) -> Outcome {
    assert!(write(client, "rs/a", "1").await?);
    let request = ReadKeyRequest {
        key: "rs/a",
        consistency: ConsistencyMode::Consistent,
        ..Default::default()
    };
    let [entry] = &client.read_key(request).await?.response[..] else { return Err("one".into()) };
    assert_eq!((entry.key.as_str(), entry.value.as_deref(), entry.flags), ("rs/a", Some("1"), 0));
    let at = |index| CreateOrUpdateKeyRequest {
        key: "rs/a",
        flags: 7,
        check_and_set: Some(index),
        ..Default::default()
    };
    assert!(!client.create_or_update_key(at(0), "2".into()).await?.0, "it is there");
    assert!(client.create_or_update_key(at(entry.modify_index), "2".into()).await?.0);
    let second = CreateOrUpdateKeyRequest { key: "rs/b", ..Default::default() };
    assert!(client.create_or_update_key_sync(second, "3".into())?);
    let all = ReadKeyRequest { key: "rs/", recurse: true, ..Default::default() };
    let all = client.read_key(all).await?.response;
    let all: Vec<_> =
        all.iter().map(|it| (it.key.as_str(), it.value.as_deref(), it.flags)).collect();
    assert_eq!(all, [("rs/a", Some("2"), 7), ("rs/b", Some("3"), 0)]);
    let gone = read(client, "rs/none").await.expect_err("no such key").to_string();
    assert!(gone.contains("404"), "{gone}");
    // This client says `recurse=false`, which is to recurse, as it is with Consul.
    let other = DeleteKeyRequest { key: "rs/b", check_and_set: 1, ..Default::default() };
    let refused = client.delete_key(other).await.expect_err("all or one").to_string();
    assert!(refused.contains("Conflicting flags: cas&recurse"), "{refused}");
    assert!(client.delete_key(DeleteKeyRequest { key: "rs/b", ..Default::default() }).await?);
    assert_eq!(read(client, "rs/").await?, [Some("2".to_owned())]);
    Ok(())
}

/// A wait ends with a write from elsewhere, or at its limit.
async fn waits(client: &Consul, other: &Consul) -> Outcome {
    let before = client.read_key(ReadKeyRequest { key: "rs/a", ..Default::default() }).await?;
    let wait = |wait, index| ReadKeyRequest {
        key: "rs/a",
        index: Some(index),
        wait: Duration::from_secs(wait),
        ..Default::default()
    };
    let unchanged = client.read_key(wait(1, before.index)).await?;
    assert_eq!(unchanged.index, before.index);
    let (later, written) =
        tokio::join!(client.read_key(wait(20, before.index)), write(other, "rs/a", "4"));
    let later = later?;
    assert!(written? && later.index > before.index);
    assert_eq!(later.response[0].value.as_deref(), Some("4"));
    Ok(())
}

async fn locks(client: &Consul) -> Outcome {
    let request = LockRequest {
        key: "rs/lock",
        behavior: LockExpirationBehavior::Delete,
        lock_delay: Duration::ZERO,
        ..Default::default()
    };
    let lock = client.get_lock(request, b"me").await?;
    let watch = LockWatchRequest { key: "rs/lock", ..Default::default() };
    let held = client.watch_lock(watch.clone()).await?;
    assert_eq!(held.response[0].session.as_deref(), Some(lock.session_id.as_str()));
    let refused = client.get_lock(request, b"you").await.expect_err("it is held").to_string();
    assert!(refused.contains("Lock acquisition failure"), "{refused}");
    drop(lock);
    let freed = client.watch_lock(LockWatchRequest {
        index: Some(held.index),
        wait: Duration::from_secs(10),
        ..watch
    });
    assert_eq!(freed.await?.response[0].session, None);
    drop(client.get_lock(request, b"you").await?);
    Ok(())
}

async fn catalog(client: &Consul, node: &str) -> Outcome {
    let nodes = client.get_nodes(GetNodesRequest::default(), None).await?.response;
    assert!(nodes.iter().any(|it| it.node == node && it.datacenter == "dc1"), "{nodes:?}");
    let check = RegisterEntityCheck::builder()
        .CheckID("rs-c".to_owned())
        .Name("alive".to_owned())
        .Status("passing".to_owned())
        .ServiceID("rs-web-1".to_owned());
    let service = RegisterEntityService::builder()
        .ID("rs-web-1".to_owned())
        .Service("rs-web".to_owned())
        .Tags(vec!["v1".to_owned()])
        .Meta(HashMap::from([("a".to_owned(), "b".to_owned())]))
        .Port(8080);
    let outside = RegisterEntityPayload::builder()
        .Node("rs-ext".to_owned())
        .Address("10.7.7.1".to_owned())
        .NodeMeta(HashMap::from([("external-node".to_owned(), "true".to_owned())]))
        .Service(service.build())
        .Checks(vec![check.build()]);
    client.register_entity(&outside.build()).await?;
    let names = client.get_all_registered_service_names(None).await?;
    assert!(names.response.contains(&"rs-web".to_owned()), "{names:?}");
    let request = GetServiceNodesRequest {
        service: "rs-web",
        passing: true,
        filter: Some("Service.Meta.a==b"),
        ..Default::default()
    };
    let found = client.get_service_nodes(request.clone(), None).await?;
    let instance = &found.response[0];
    assert_eq!((instance.node.node.as_str(), instance.service.tags.len()), ("rs-ext", 1));
    let addresses = client.get_service_addresses_and_ports("rs-web", None).await?;
    assert_eq!(addresses, [("10.7.7.1".to_owned(), 8080)]);

    let away = DeregisterEntityPayload::builder().Node("rs-ext".to_owned()).build();
    let options = QueryOptions {
        index: Some(found.index),
        wait: Some(Duration::from_secs(10)),
        timeout: Some(Duration::from_secs(15)),
        ..Default::default()
    };
    let (later, gone) = tokio::join!(
        client.get_service_nodes(request, Some(options)),
        client.deregister_entity(&away),
    );
    gone?;
    assert!(later?.response.is_empty());
    Ok(())
}

async fn access(client: &Consul, client_with: impl Fn(&str) -> Consul) -> Outcome {
    let policy = CreateACLPolicyRequest {
        name: "rs".to_owned(),
        description: Some("of the client".to_owned()),
        rules: Some(r#"key_prefix "rs/" { policy = "read" }"#.to_owned()),
    };
    let policy = client.create_acl_policy(&policy).await?;
    assert!(client.get_acl_policies().await?.iter().any(|it| it.id == policy.id));
    let link = ACLTokenPolicyLink { id: None, name: Some("rs".to_owned()) };
    let token = CreateACLTokenPayload {
        description: Some("reads".to_owned()),
        policies: vec![link],
        ..Default::default()
    };
    let token = client.create_acl_token(&token).await?;
    let same = client.read_acl_token(token.accessor_id.clone()).await?;
    assert_eq!((same.description.as_str(), &same.hash), ("reads", &token.hash));
    assert!(client.get_acl_tokens().await?.iter().any(|it| it.accessor_id == token.accessor_id));

    let reader = client_with(&token.secret_id);
    assert_eq!(read(&reader, "rs/a").await?, [Some("4".to_owned())]);
    let refused = write(&reader, "rs/a", "5").await.expect_err("it reads only").to_string();
    let said =
        format!("token with AccessorID '{}' lacks permission 'key:write'", token.accessor_id);
    assert!(refused.contains("403") && refused.contains(&said), "{refused}");
    client.delete_acl_token(token.accessor_id).await?;
    let unknown = read(&reader, "rs/a").await.expect_err("the token is gone").to_string();
    assert!(unknown.contains("ACL not found"), "{unknown}");
    client.delete_acl_policy(policy.id).await?;
    let all = DeleteKeyRequest { key: "rs/", recurse: true, ..Default::default() };
    assert!(client.delete_key(all).await?);
    Ok(())
}
