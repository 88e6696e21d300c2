//! The map in `src/lib.rs` names files that exist.

use std::path::Path;

#[test]
fn every_file_that_the_map_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("src/lib.rs")).expect("src/lib.rs");
    let named: Vec<&str> = text.split('`').filter(|part| part.contains('/')).collect();
    let is_path = |name: &&&str| !name.contains([' ', '\n', '{']);
    let missing: Vec<&&str> = named
        .iter()
        .filter(is_path)
        .filter(|name| !root.join("src").join(name).exists() && !root.join(name).exists())
        .collect();
    assert!(named.len() > 50 && missing.is_empty(), "{missing:?}");
}
