//! The OpenAPI document: it is the accepted one, and describes every operation completely.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::Path;

use segmentd::api::openapi_document;
use serde_json::{Value, json};

use crate::tidy::files_in;

/// A difference is a change of the API. To accept it, run the `cp` of the message.
#[test]
fn the_openapi_document_is_the_accepted_one() {
    let root = env!("CARGO_MANIFEST_DIR");
    let found = serde_json::to_string_pretty(&openapi_document()).unwrap() + "\n";
    let accepted = std::fs::read_to_string(format!("{root}/tests/data/openapi.json"));
    if accepted.unwrap_or_default() != found {
        let proposed = format!("{root}/target/openapi.json");
        std::fs::write(&proposed, found).unwrap();
        panic!("the API's description changed; to accept: cp {proposed} tests/data/openapi.json");
    }
}

/// An operation of the document.
struct Operation<'d> {
    /// Method and path.
    name: String,
    value: &'d Value,
}

fn operations(document: &Value) -> Vec<Operation<'_>> {
    let mut operations = Vec::new();
    for part in ["paths", "webhooks"] {
        for (path, item) in document[part].as_object().unwrap() {
            for (method, value) in item.as_object().unwrap() {
                operations.push(Operation { name: format!("{method} {path}"), value });
            }
        }
    }
    operations
}

/// What the document lacks.
struct ContractCheck<'d> {
    document: &'d Value,
    gaps: Vec<String>,
    examples: usize,
    described_parameters: usize,
}

impl<'d> ContractCheck<'d> {
    fn expect(&mut self, holds: bool, gap: impl Into<String>) {
        if !holds {
            self.gaps.push(gap.into());
        }
    }

    fn check_operation(&mut self, Operation { name, value }: &Operation<'d>) {
        let id = value["operationId"].as_str().unwrap_or_default();
        let is_snake_case =
            !id.is_empty() && id.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        self.expect(is_snake_case, format!("{name}: the operation id `{id}` is not snake_case"));
        let tags = value["tags"].as_array().map_or(0, Vec::len);
        self.expect(tags == 1, format!("{name}: {tags} tags"));
        let summary = value["summary"].as_str().unwrap_or_default();
        let is_short = (1..=60).contains(&summary.len()) && !summary.contains(':');
        self.expect(is_short, format!("{name}: the summary `{summary}`"));
        for parameter in value["parameters"].as_array().into_iter().flatten() {
            let described = has_text(&parameter["description"]);
            self.described_parameters += usize::from(described);
            self.expect(described, format!("{name}: {} has no description", parameter["name"]));
            let is_typed =
                parameter["schema"]["type"].is_string() || parameter["schema"]["$ref"].is_string();
            self.expect(is_typed, format!("{name}: {} has no type", parameter["name"]));
        }
        if !value["requestBody"].is_null() {
            self.check_content(&format!("{name}: request"), &value["requestBody"]["content"]);
        }
        for (status, response) in value["responses"].as_object().unwrap() {
            let is_status = status.len() == 3 && status.chars().all(|c| c.is_ascii_digit());
            self.expect(is_status, format!("{name}: the status `{status}`"));
            let is_described = response["$ref"].is_string() || has_text(&response["description"]);
            self.expect(is_described, format!("{name}: {status}: no description"));
            if status.starts_with('2') && status != "204" && status != "202" {
                self.check_content(&format!("{name}: {status}"), &response["content"]);
            }
        }
    }

    fn check_content(&mut self, name: &str, content: &'d Value) {
        self.expect(content.is_object(), format!("{name}: no content"));
        for (media_type, media) in content.as_object().into_iter().flatten() {
            let schema = &media["schema"];
            self.expect(schema.is_object(), format!("{name}: {media_type}: no schema"));
            if media_type != "application/json" || !schema.is_object() {
                continue;
            }
            let is_named = !named_schemas(schema).is_empty();
            self.expect(is_named, format!("{name}: the schema has no name"));
            self.expect(media.get("example").is_some(), format!("{name}: no example"));
            if let Some(example) = media.get("example") {
                self.examples += 1;
                self.check_example(name, schema, example);
            }
        }
    }

    fn check_example(&mut self, name: &str, schema: &Value, example: &Value) {
        let components = &self.document["components"];
        let whole = json!({ "allOf": [schema], "components": components });
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(&whole)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        for error in validator.iter_errors(example) {
            let place = error.instance_path();
            self.gaps.push(format!("{name}: the example at `{place}`: {error}"));
        }
    }

    /// Every schema that an operation uses has described properties.
    fn check_schemas(&mut self, used: &BTreeSet<String>) {
        let schemas = &self.document["components"]["schemas"];
        for name in used {
            self.expect(!name.ends_with("Body"), format!("{name}: the name of a Rust type"));
            let schema = &schemas[name];
            self.expect(has_text(&schema["description"]), format!("{name}: no description"));
            self.check_properties(name, schema);
        }
    }

    fn check_properties(&mut self, name: &str, schema: &Value) {
        for (property, value) in schema["properties"].as_object().into_iter().flatten() {
            let schemas = &self.document["components"]["schemas"];
            let is_described = has_text(&value["description"])
                || named_schemas(value)
                    .iter()
                    .any(|named| has_text(&schemas[named]["description"]));
            self.expect(is_described, format!("{name}.{property}: no description"));
        }
        for part in ["allOf", "oneOf", "anyOf"] {
            for part in schema[part].as_array().into_iter().flatten() {
                self.check_properties(name, part);
            }
        }
    }
}

fn has_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.trim().is_empty())
}

/// The schemas that a value refers to directly.
fn named_schemas(value: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    collect_names(value, &mut names);
    names
}

fn collect_names(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            let path = object.get("$ref").and_then(Value::as_str);
            let name = path.and_then(|path| path.strip_prefix("#/components/schemas/"));
            names.extend(name.map(str::to_owned));
            object.values().for_each(|value| collect_names(value, names));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_names(item, names)),
        _ => {}
    }
}

/// The schemas that these values use, and those that these schemas use.
fn reachable_schemas<'d>(
    document: &'d Value,
    values: impl Iterator<Item = &'d Value>,
) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    values.for_each(|value| collect_names(value, &mut names));
    let mut count = 0;
    while names.len() > count {
        count = names.len();
        for name in names.clone() {
            collect_names(&document["components"]["schemas"][&name], &mut names);
        }
    }
    names
}

#[test]
fn every_operation_is_described_completely() {
    let document = openapi_document();
    let all = operations(&document);
    let mut check = ContractCheck {
        document: &document,
        gaps: Vec::new(),
        examples: 0,
        described_parameters: 0,
    };
    for operation in &all {
        check.check_operation(operation);
    }
    let used = reachable_schemas(&document, all.iter().map(|operation| operation.value));
    check.check_schemas(&used);
    let ids: BTreeSet<_> = all.iter().map(|one| one.value["operationId"].as_str()).collect();
    check.expect(ids.len() == all.len(), "two operations have one id");
    let counts = format!(
        "operations: {}, all typed, tagged and described; schemas: {}, examples: {}, parameters described: {}",
        all.len(),
        used.len(),
        check.examples,
        check.described_parameters,
    );
    // Unlike `println!`, this is not captured.
    std::io::stderr().write_all(format!("{counts}\n").as_bytes()).unwrap();
    assert!(check.gaps.is_empty(), "{} gaps:\n{}\n", check.gaps.len(), check.gaps.join("\n"));
}

/// The document lists a schema by its name, so the second of two types with one name would silently
/// replace the first.
#[test]
fn no_two_types_of_the_api_share_a_schema_name() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in files_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api")) {
        let text = fs::read_to_string(&path).unwrap();
        // Each type follows the attribute that derives its schema.
        for part in text.split("ToSchema)]").skip(1) {
            let words: Vec<&str> = part.split([' ', '<', '(', '\n', '{', ';']).collect();
            let at = words.iter().position(|word| ["struct", "enum"].contains(word)).unwrap();
            let name = words[at + 1].trim_end_matches("Body").to_owned();
            places.entry(name).or_default().push(path.display().to_string());
        }
    }
    assert!(places.len() > 300, "{} schemas found", places.len());
    places.retain(|_, places| places.len() > 1);
    assert!(places.is_empty(), "{places:#?}");
}
