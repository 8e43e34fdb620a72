//! False claims in a guest's manifest.

use stockade::{
    BuildError, Bytes, FunctionKind, ModuleDescription, Output, Pool, PoolBuilder, RefusedReason,
    RunError, SubmitError, TaskError,
};
use stockade_tests::bombs::{Binary, Section};
use stockade_tests::{Folder, wat};

use super::super::seen;
use super::{assert_first_worker, guest};

/// A module with a task `a`, a function `b` of one parameter, and `manifest`.
fn claiming(manifest: &[u8]) -> PoolBuilder {
    let escaped: String = manifest
        .iter()
        .map(|byte| match byte {
            b'"' | b'\\' | 0..32 | 127.. => format!("\\{byte:02x}"),
            byte => char::from(*byte).to_string(),
        })
        .collect();
    wat(&guest(
        1,
        &format!(
            r#"(data (i32.const 0) "answer")
               (func (export "a") (result i32)
                (call $output_write (i32.const 0) (i32.const 6)) (i32.const 0))
               (func (export "b") (param i32) (result i32) (local.get 0))
               (@custom "stockade.tasks" "{escaped}")"#
        ),
    ))
}

fn record(kind: &str, name: &str, export: &str, rest: &str) -> String {
    let name = serde_json::to_string(name).unwrap();
    format!("{{\"abi\":1,\"kind\":\"{kind}\",\"name\":{name},\"export\":\"{export}\"{rest}}}\n")
}

fn task(name: &str, export: &str) -> String {
    record("task", name, export, ",\"result\":\"[u8; 6]\"")
}

/// A module in its binary form, whose function `a` returns 7, with a manifest of many bytes.
fn large(manifest: &str) -> Vec<u8> {
    assert!(manifest.len() >= 10 << 20);
    Binary::new()
        .section(Section::Type, [1, 0x60, 0, 1, 0x7f])
        .section(Section::Function, [1, 0])
        .section(Section::Export, [1, 1, b'a', 0, 0])
        .section(Section::Code, [1, 4, 0, 0x41, 7, 0x0b])
        .custom("stockade.tasks", manifest.as_bytes())
        .bytes()
}

fn described(pool: &Pool) -> &ModuleDescription {
    pool.modules().next().unwrap().1
}

/// The claim is ignored with a warning to the builder of the pool, and what is true next to it counts.
#[track_caller]
fn assert_ignored(claim: &[u8]) {
    let shown = String::from_utf8_lossy(&claim[..claim.len().min(80)]).into_owned();
    let pool = claiming(&[claim, b"\n", task("honest", "a").as_bytes()].concat()).build().unwrap();
    let description = described(&pool);
    let names: Vec<_> = description.functions.iter().map(|function| &function.name).collect();
    assert_eq!(names, ["honest"], "{shown}");
    assert_eq!(description.warnings.len(), 1, "{shown}: {:?}", description.warnings);
    let warning = &description.warnings[0];
    assert!(warning.len() < 1000, "{shown}: {} bytes of warning", warning.len());
    assert!(!warning.contains(char::is_control), "{shown}: {warning:?}");
    assert_eq!(pool.run::<[u8; 6]>("honest", ()).unwrap(), *b"answer", "{shown}");
    assert_eq!(pool.run::<i32>("b", (7,)).unwrap(), 7, "{shown}");
    assert_first_worker(&pool);
}

#[test]
fn a39_a_forged_manifest_is_believed_only_where_the_module_bears_it_out() {
    let many = |count: usize| {
        let one = r#"{"name":"p","type":"u8"}"#;
        format!(",\"params\":[{}]", vec![one; count].join(","))
    };
    let claims: Vec<Vec<u8>> = vec![
        task("ghost", "no such export").into(),
        task("wrong", "b").into(),
        task("memory", "memory").into(),
        task("", "a").into(),
        task(&"n".repeat(257), "a").into(),
        task("\u{1b}[2J\r\nstdout | \0", "b").into(),
        record("service", "kind", "a", "").into(),
        record("task", "many", "a", &many(65)).into(),
        record("task", "typed", "a", ",\"params\":7").into(),
        b"not JSON".to_vec(),
        b"{\"abi\":1".to_vec(),
        b"\xff\xfe".to_vec(),
        b"null".to_vec(),
        b"[1, 2, 3]".to_vec(),
        b"{\"abi\":-1,\"kind\":\"task\"}".to_vec(),
        vec![b'['; 1_000_000],
        b"{\"abi\":".repeat(100_000),
    ];
    for claim in &claims {
        assert_ignored(claim);
    }

    // Two of a name, two of a purpose: the first counts.
    let lines = [
        task("twin", "a"),
        task("twin", "a"),
        record("initializer", "begin", "a", ""),
        record("initializer", "begin again", "a", ""),
    ];
    let pool = claiming(lines.concat().as_bytes()).build().unwrap();
    let kinds: Vec<_> = described(&pool).functions.iter().map(|function| function.kind).collect();
    assert_eq!(kinds, [FunctionKind::Task, FunctionKind::Initializer]);
    assert_eq!(described(&pool).warnings.len(), 2);

    // Ten megabytes: all of it is ignored, and functions are called as if there were none.
    let folder = Folder::new();
    let file = folder.file("large.wasm", large(&task("x", "a").repeat(160_000)));
    let pool = Pool::single().module(file).build().unwrap();
    assert!(described(&pool).functions.is_empty());
    assert_eq!(described(&pool).warnings.len(), 1);
    assert_eq!(pool.run::<i32>("a", ()).unwrap(), 7);
    // As many lies as there is room for: the first few are told.
    let pool = claiming(record("task", "x", "y", "").repeat(18_000).as_bytes()).build().unwrap();
    assert_eq!(described(&pool).warnings.len(), 21);

    // Types that the results are not of, and that are no types.
    let deep = format!("{}u8{}", "Vec<".repeat(900), ">".repeat(900));
    for result in ["u64", "(bool, bool)", &deep] {
        let rest = format!(",\"result\":\"{result}\"");
        let pool = claiming(record("task", "liar", "a", &rest).as_bytes()).build().unwrap();
        let handle = pool.submit::<u64>("liar", ()).unwrap();
        assert!(matches!(handle.result(), Err(TaskError::Decode(_))), "{result}");
        let Output::Encoded { bytes, .. } = handle.output().unwrap() else { panic!("no bytes") };
        assert_eq!(bytes, b"answer");
        assert_first_worker(&pool);
    }
    // Parameters that it does not have: callers are held to what it says, and nothing breaks.
    let rest = ",\"params\":[{\"name\":\"x\",\"type\":\"&'static mut [!]\"}]";
    let pool = claiming(record("task", "odd", "a", rest).as_bytes()).build().unwrap();
    let refused = pool.run::<Vec<u8>>("odd", ());
    assert!(matches!(refused, Err(RunError::Submit(SubmitError::Signature { .. }))), "{refused:?}");
    assert_eq!(pool.run::<Vec<u8>>("odd", Bytes(Vec::new())).unwrap(), b"answer");

    // Another version of the ABI is the one claim for which a module is refused.
    for version in ["2", "4294967296", "18446744073709551615"] {
        let error = claiming(format!("{{\"abi\":{version}}}").as_bytes()).build().unwrap_err();
        let BuildError::Refused { reason, .. } = &error else { panic!("{error:?}") };
        assert!(matches!(reason, RefusedReason::Feature(_)), "{reason:?}");
    }
    seen(
        39,
        &format!(
            "{} forged records are ignored, each with one warning without control characters; so \
             are 10 MB at once; of 18,000 lies 20 are told; a result of another type than claimed \
             is `Decode`; another version of the ABI is refused as `Feature`",
            claims.len()
        ),
    );
}
