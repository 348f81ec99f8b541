//! Checks that imports go from higher to lower layers only. It reads the `use` lines of the three packages, without
//! those of unit tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The layers of `functions`, from the lowest. A file imports from its own layer and from lower ones.
const FUNCTIONS: [&[&str]; 9] = [
    &["app", "failure"],
    &["call"],
    &["function"],
    &["delivery"],
    &["sockets", "messages", "conversations", "groups", "invitations", "back_end"],
    &["all"],
    &["invoke"],
    &["serve"],
    &["lib"],
];

/// The layers of `shared`. The rules of delivery import nothing of the table, the network or the configuration.
const SHARED: [&[&str]; 5] = [
    &["clock", "content", "error", "id", "json", "name", "metrics"],
    &["frame", "rules"],
    &["config"],
    &["aws", "bus", "push", "queue", "token", "table"],
    &["lib"],
];

/// Returns the modules of a package by their paths, such as `table/keys`, each with the modules that it imports.
fn imports(package: &str) -> BTreeMap<String, BTreeSet<String>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(package).join("src");
    let mut files = Vec::new();
    find_files(&source, &mut files);
    let module = |path: &Path| {
        let path = path.strip_prefix(&source).expect("it is in the folder").with_extension("");
        let path = path.to_str().expect("a name in ASCII").replace(std::path::MAIN_SEPARATOR, "/");
        path.strip_suffix("/mod").map_or_else(|| path.clone(), str::to_owned)
    };
    let modules: BTreeSet<String> = files.iter().map(|path| module(path)).collect();
    let read = |path: &PathBuf| {
        let name = module(path);
        let text = fs::read_to_string(path).expect("a source file can be read");
        let code = text.split("#[cfg(test)]\nmod").next().unwrap_or_default();
        let is_folder = path.file_name().is_some_and(|file| file == "mod.rs" || file == "lib.rs");
        let used = uses(code).into_iter().filter_map(|path| resolve(&path, &name, is_folder, &modules));
        let used = used.filter(|used| *used != name).collect();
        (name, used)
    };
    files.iter().map(read).collect()
}

fn find_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder can be listed") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            find_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Returns the paths in `use` declarations, one for each name. Leaves out `pub use`, which only re-exports.
fn uses(code: &str) -> Vec<String> {
    let statements = code.split(';').filter_map(|statement| {
        let start = statement.rfind("use ")?;
        let before = statement[..start].trim_end();
        (!before.ends_with("pub")
            && (before.is_empty() || before.ends_with(['\n', ']', '}', '/']) || is_comment(before)))
        .then(|| statement[start + 4..].split_whitespace().collect::<String>())
    });
    statements
        .flat_map(|path| expanded(&path))
        .filter(|path| path.starts_with("crate::") || path.starts_with("super::"))
        .collect()
}

fn is_comment(before: &str) -> bool {
    before.lines().last().is_some_and(|line| line.trim_start().starts_with("//"))
}

/// Expands `a::{b, c::d}` to `a::b` and `a::c::d`.
fn expanded(path: &str) -> Vec<String> {
    let Some((prefix, rest)) = path.split_once('{') else { return vec![path.to_owned()] };
    let rest = rest.strip_suffix('}').unwrap_or(rest);
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in rest.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&rest[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&rest[start..]);
    parts.into_iter().filter(|part| !part.is_empty()).flat_map(|part| expanded(&format!("{prefix}{part}"))).collect()
}

/// Returns the module that a path leads to.
fn resolve(path: &str, from: &str, is_folder: bool, modules: &BTreeSet<String>) -> Option<String> {
    let mut place: Vec<&str> = from.split('/').filter(|part| *part != "lib").collect();
    if !is_folder {
        place.pop();
    }
    let mut segments = path.split("::").peekable();
    match segments.next() {
        Some("crate") => place.clear(),
        // `super` of a file is its folder.
        Some("super") if is_folder => drop(place.pop()),
        _ => {}
    }
    while segments.next_if_eq(&"super").is_some() {
        place.pop();
    }
    let mut found = (!place.is_empty()).then(|| place.join("/"));
    for segment in segments {
        place.push(segment);
        let name = place.join("/");
        if !modules.contains(&name) {
            break;
        }
        found = Some(name);
    }
    found
}

/// Returns a circle of imports, if there is one, as the modules along it.
fn circle(imports: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn walk(
        module: &str,
        imports: &BTreeMap<String, BTreeSet<String>>,
        way: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> bool {
        if let Some(start) = way.iter().position(|known| known == module) {
            way.drain(..start);
            return true;
        }
        if !done.insert(module.to_owned()) {
            return false;
        }
        way.push(module.to_owned());
        if imports.get(module).into_iter().flatten().any(|next| walk(next, imports, way, done)) {
            return true;
        }
        way.pop();
        false
    }
    let mut done = BTreeSet::new();
    imports.keys().find_map(|module| {
        let mut way = Vec::new();
        walk(module, imports, &mut way, &mut done).then_some(way)
    })
}

fn layer(layers: &[&[&str]], module: &str) -> usize {
    let folder = module.split('/').next().unwrap_or_default();
    let found = layers.iter().position(|layer| layer.contains(&folder));
    found.unwrap_or_else(|| panic!("{module} is in no layer"))
}

#[test]
fn no_package_has_a_circle_of_modules() {
    for package in ["functions", "shared", "localstack"] {
        let imports = imports(package);
        assert!(imports.values().map(BTreeSet::len).sum::<usize>() > 20, "{package}: found too few imports");
        assert_eq!(circle(&imports), None, "{package}");
    }
}

#[test]
fn no_import_goes_to_a_higher_layer() {
    for (package, layers) in [("functions", &FUNCTIONS[..]), ("shared", &SHARED[..])] {
        for (module, used) in imports(package).iter().filter(|(module, _)| !module.starts_with("bin/")) {
            for used in used {
                assert!(layer(layers, used) <= layer(layers, module), "{package}: {module} imports {used}");
            }
        }
    }
}

#[test]
fn no_function_imports_another() {
    let functions: BTreeSet<&str> = functions::ALL.iter().map(|function| function.name).collect();
    let is_function =
        |module: &str| module.contains('/') && functions.contains(module.rsplit('/').next().unwrap_or(""));
    for (module, used) in imports("functions").iter().filter(|(module, _)| is_function(module)) {
        assert!(used.iter().all(|used| !is_function(used)), "{module} imports {used:?}");
    }
}

#[test]
fn circles_and_paths_are_recognized() {
    assert_eq!(
        expanded("crate::a::{b,c::{d,e},f}"),
        ["crate::a::b", "crate::a::c::d", "crate::a::c::e", "crate::a::f"]
    );
    let modules: BTreeSet<String> = ["a", "a/b", "a/c", "d"].map(str::to_owned).into();
    let resolved = |path, from, is_folder| resolve(path, from, is_folder, &modules);
    assert_eq!(resolved("super::c::Thing", "a/b", false).as_deref(), Some("a/c"));
    assert_eq!(resolved("super::Thing", "a/b", false).as_deref(), Some("a"));
    assert_eq!(resolved("crate::d::Thing", "a/b", false).as_deref(), Some("d"));
    assert_eq!(resolved("crate::Thing", "a/b", false), None);
    let edges = |edges: &[(&str, &str)]| {
        edges.iter().map(|(from, to)| ((*from).to_owned(), BTreeSet::from([(*to).to_owned()]))).collect()
    };
    assert_eq!(circle(&edges(&[("a", "b"), ("b", "c")])), None);
    assert_eq!(circle(&edges(&[("a", "b"), ("b", "c"), ("c", "b")])).unwrap(), ["b", "c"]);
}
