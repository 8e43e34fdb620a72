//! Rooms: the folders of `src`, whose imports only run down.
//!
//! A room may import from itself and from rooms below it. Within a room, modules form no cycle; a
//! module is a file with the folder of its name. Tests, models and comments may name everything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// From the bottom to the top. Files of `src` itself are above them all.
const ROOMS: [&str; 8] =
    ["base", "outcome", "process", "compile", "call", "state", "backend", "api"];

/// A source file: its path below `src`, and its text.
type File = (String, String);

/// A path that a file names, from the crate's root on, and in which line.
#[derive(Debug)]
struct Import {
    line: usize,
    path: Vec<String>,
}

#[test]
fn imports_run_down_and_modules_form_no_cycle() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    read_folder(&source, "", &mut files);
    assert!(files.len() > ROOMS.len(), "{} files in {}", files.len(), source.display());
    let faults = faults(&files);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Adds every file of production code.
fn read_folder(folder: &Path, below: &str, files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let name = format!("{below}{name}");
        let is_test = ["tests", "models", "model"].map(Some).contains(&stem(&name));
        match path.is_dir() {
            _ if is_test => {}
            true => read_folder(&path, &format!("{name}/"), files),
            false => files.push((name, fs::read_to_string(&path).unwrap())),
        }
    }
}

/// The name of a file's module, or of a folder's.
fn stem(path: &str) -> Option<&str> {
    Path::new(path).file_stem()?.to_str()
}

/// What is wrong with the imports of these files, a line each.
fn faults(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, text) in files {
        let own = module_of(file);
        let Some(room) = own.first().filter(|_| file.contains('/')) else { continue };
        let Some(height) = height_of(room) else {
            faults.push(format!("{file}: {room} is not in the list of rooms"));
            continue;
        };
        if own.len() == 1 && production_code(text).contains("use ") {
            faults.push(format!("{file}: a room that re-exports names hides their modules"));
        }
        for Import { line, path } in imports(&own, text) {
            let Some(target) = path.first() else { continue };
            match height_of(target) {
                None => faults.push(format!(
                    "{file}:{line}: {room} imports `{target}` from the root, not from its room"
                )),
                Some(above) if above > height => {
                    faults.push(format!("{file}:{line}: {room} imports from {target}"));
                }
                Some(_) => {
                    if let ([_, from, ..], [to_room, to, ..]) = (&*own, &*path)
                        && to_room == room
                        && from != to
                    {
                        let to = format!("{room}::{to}");
                        graph.entry(format!("{room}::{from}")).or_default().insert(to);
                    }
                }
            }
        }
    }
    faults.extend(cycle(&graph).map(|cycle| format!("a cycle: {}", cycle.join(" -> "))));
    faults
}

fn height_of(room: &str) -> Option<usize> {
    ROOMS.iter().position(|known| *known == room)
}

/// The path of a file's module from the crate's root on.
fn module_of(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').map(String::from).collect()
}

/// Every path in the production code of a file that begins with `crate`, `super` or `self`.
fn imports(own: &[String], text: &str) -> Vec<Import> {
    let code = production_code(text);
    let mut found = Vec::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || "_:".contains(c)) {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            let mut paths = Vec::new();
            read_tree(&code[at..], &[], &mut paths);
            let resolved = paths.into_iter().map(|path| resolve(own, &path));
            found.extend(resolved.map(|path| Import { line, path }));
        }
    }
    found
}

/// The text with empty lines in place of comments and of items that are only in tests.
fn production_code(text: &str) -> String {
    let mut code = String::new();
    let mut test_indent = None;
    for line in text.lines() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        let is_test = trimmed.starts_with("#[cfg(test)") || trimmed.starts_with("#[cfg(all(test");
        if is_test && test_indent.is_none() {
            test_indent = Some(indent);
        }
        if test_indent.is_none() {
            code.push_str(line.split("//").next().unwrap_or_default());
        }
        // Formatted code: an item ends where a line of its own indent ends with one of these.
        if test_indent == Some(indent) && trimmed.ends_with(['}', ';', ',']) {
            test_indent = None;
        }
        code.push('\n');
    }
    code
}

/// Reads a path, or a tree of them as in `a::{b, c::{d, e}}`. Returns what follows it.
fn read_tree<'a>(code: &'a str, before: &[String], paths: &mut Vec<Vec<String>>) -> &'a str {
    let code = code.trim_start();
    if let Some(mut rest) = code.strip_prefix('{') {
        loop {
            rest = rest.trim_start_matches([',', ' ', '\n']);
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
            let after = read_tree(rest, before, paths);
            // `as name`, or what is no tree.
            let end = after.find([',', '}']).unwrap_or(after.len());
            rest = &after[end..];
            if rest.is_empty() {
                return rest;
            }
        }
    }
    let end = code.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(code.len());
    let path = [before, &[code[..end].to_string()]].concat();
    match code[end..].strip_prefix("::") {
        Some(rest) => read_tree(rest, &path, paths),
        None => {
            paths.push(path);
            &code[end..]
        }
    }
}

/// A path from the crate's root on, as the module `own` names it.
fn resolve(own: &[String], path: &[String]) -> Vec<String> {
    let mut resolved = own.to_vec();
    for name in path {
        match &**name {
            "crate" => resolved.clear(),
            "super" => drop(resolved.pop()),
            "self" => {}
            _ => resolved.push(name.clone()),
        }
    }
    resolved
}

/// A cycle, if there is one, with its first module once more at its end.
fn cycle(graph: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit<'a>(
        module: &'a str,
        graph: &'a BTreeMap<String, BTreeSet<String>>,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> bool {
        if let Some(start) = way.iter().position(|known| *known == module) {
            way.drain(..start);
            way.push(module);
            return true;
        }
        if done.contains(module) {
            return false;
        }
        way.push(module);
        if graph.get(module).into_iter().flatten().any(|next| visit(next, graph, way, done)) {
            return true;
        }
        way.pop();
        done.insert(module);
        false
    }
    let (mut way, mut done) = (Vec::new(), BTreeSet::new());
    let found = graph.keys().any(|module| visit(module, graph, &mut way, &mut done));
    found.then(|| way.into_iter().map(String::from).collect())
}

/// What is wrong with files that are made up.
fn faults_of(files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<File> =
        files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
    faults(&files)
}

#[test]
fn an_import_that_runs_up_is_found_with_its_line() {
    let text = "//! See crate::api.\n\n\
                use crate::{\n    base::deadline,\n    api::pool::{Core, Pool},\n};\n";
    let faults = faults_of(&[("backend/driver.rs", text)]);
    assert_eq!(faults, ["backend/driver.rs:3: backend imports from api"; 2]);
    let inline = "fn f() {\n    super::super::state::cell::f()\n}\n";
    let faults = faults_of(&[("call/shape/parse.rs", inline)]);
    assert!(faults.is_empty(), "{faults:?}");
    let faults = faults_of(&[("call/shape.rs", inline)]);
    assert_eq!(faults, ["call/shape.rs:2: call imports from state"]);
}

#[test]
fn an_import_from_the_root_is_found_as_it_hides_its_room() {
    let faults =
        faults_of(&[("state/cell.rs", "use crate::Pool;\n"), ("lib.rs", "use crate::Pool;\n")]);
    assert_eq!(faults, ["state/cell.rs:1: state imports `Pool` from the root, not from its room"]);
}

#[test]
fn a_folder_that_is_no_room_and_a_room_that_re_exports_are_found() {
    let faults =
        faults_of(&[("attic/a.rs", ""), ("call/mod.rs", "mod codec;\npub use codec::decode;\n")]);
    let hides = "call/mod.rs: a room that re-exports names hides their modules";
    assert_eq!(faults, ["attic/a.rs: attic is not in the list of rooms", hides]);
}

#[test]
fn comments_and_tests_may_name_everything() {
    let text = "fn f() {} // crate::api::f\n\
                #[cfg(all(test, shuttle))]\nfn g() {\n    crate::api::f();\n}\n\
                fn h() {\n    crate::api::f();\n}\n\
                #[cfg(test)]\nmod tests {\n    use crate::api::f;\n}\n";
    assert_eq!(faults_of(&[("base/sync.rs", text)]), ["base/sync.rs:7: base imports from api"]);
}

#[test]
fn a_cycle_of_modules_is_found_and_children_are_part_of_their_module() {
    let files = [
        ("state/cell.rs", "use super::spec::Spec;\nuse self::stage::Stage;\n"),
        ("state/cell/stage.rs", "use super::Cell;\n"),
        ("state/spec.rs", "use crate::state::{cell::Cell, link::Link};\n"),
        ("state/link.rs", "use crate::base::sync;\n"),
    ];
    assert_eq!(faults_of(&files), ["a cycle: state::cell -> state::spec -> state::cell"]);
    assert!(faults_of(&files[1..]).is_empty());
}
