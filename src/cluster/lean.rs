//! An object as the API server sends it becomes a typed one without `metadata.managedFields`, or what can be said of one that is
//! not of its type.
//!
//! The record of who has set which field (Kubernetes: server-side apply) is often half of an object, and seldom read. It is cut
//! out of the text, because as a tree of values it would be most of what a list takes in memory.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::Resource;
use kube::core::PartialObjectMeta;
use serde::de::{DeserializeOwned, Error, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// An object that may not be what its type demands: it must not keep the others of its kind from being read.
#[derive(Clone, Debug)]
pub struct Lean<K> {
    pub object: Result<K, Unreadable>,
    pub managed_fields: ManagedFields,
}

/// As the API server wrote them.
#[derive(Clone, Debug, Default)]
pub struct ManagedFields(Box<str>);

impl ManagedFields {
    /// None when there are none, or when they are not what Kubernetes says that they are.
    pub fn entries(&self) -> Vec<ManagedFieldsEntry> {
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

#[derive(Clone, Debug)]
pub struct Unreadable {
    /// What is wrong with it.
    pub error: String,
    pub metadata: ObjectMeta,
}

impl<'de, K: Resource + DeserializeOwned> Deserialize<'de> for Lean<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<str>::from(Box::<RawValue>::deserialize(deserializer)?);
        let (text, managed_fields) = without_managed_fields(text.into());
        let object = match serde_json::from_str(&text) {
            Ok(object) => Ok(object),
            Err(error) => {
                let PartialObjectMeta::<K> { metadata, .. } = serde_json::from_str(&text).map_err(D::Error::custom)?;
                Err(Unreadable {
                    error: error.to_string(),
                    metadata,
                })
            }
        };
        Ok(Self { object, managed_fields })
    }
}

/// Within a string a quote is escaped (RFC 8259, section 7), so that wherever these bytes stand they are the name of a member. No type
/// that is read here has another member of this name.
const MANAGED_FIELDS: &str = "\"managedFields\":";

fn without_managed_fields(mut object: String) -> (String, ManagedFields) {
    let mut managed_fields = ManagedFields::default();
    if let Some(start) = object.find(MANAGED_FIELDS) {
        let value = start + MANAGED_FIELDS.len();
        let mut values = serde_json::Deserializer::from_str(&object[value..]).into_iter::<IgnoredAny>();
        if let Some(Ok(_)) = values.next() {
            let value = value..value + values.byte_offset();
            managed_fields = ManagedFields(object[value.clone()].into());
            object.replace_range(value, "null");
        }
    }
    (object, managed_fields)
}

impl<K: Resource> Resource for Lean<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(of: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(of)
    }

    fn group(of: &Self::DynamicType) -> Cow<'_, str> {
        K::group(of)
    }

    fn version(of: &Self::DynamicType) -> Cow<'_, str> {
        K::version(of)
    }

    fn plural(of: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(of)
    }

    fn meta(&self) -> &ObjectMeta {
        self.object
            .as_ref()
            .map_or_else(|unreadable| &unreadable.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.object
            .as_mut()
            .map_or_else(|unreadable| &mut unreadable.metadata, K::meta_mut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt;
    use kube::core::WatchEvent;
    use serde_json::{Value, json};

    fn read(object: &Value) -> Lean<ConfigMap> {
        serde_json::from_str(&object.to_string()).unwrap()
    }

    fn object() -> Value {
        json!({
            "metadata": {
                "name": "a",
                "managedFields": [{"manager": "m", "fieldsV1": {"f:data": {"f:\"]}": {}}}}, {}],
                "uid": "u",
            },
            "data": {"text": "\"managedFields\":[1]"},
        })
    }

    #[test]
    fn everything_but_the_managed_fields_is_kept() {
        let mut without = object();
        without["metadata"].as_object_mut().unwrap().remove("managedFields");
        let expected: ConfigMap = serde_json::from_value(without.clone()).unwrap();
        let lean = read(&object());
        assert_eq!(lean.object.unwrap(), expected);
        let entries = lean.managed_fields.entries();
        assert_eq!((entries.len(), entries[0].manager.as_deref()), (2, Some("m")));
        let lean = read(&without);
        assert_eq!(lean.object.unwrap(), expected);
        assert!(lean.managed_fields.entries().is_empty());
    }

    #[test]
    fn an_object_that_is_not_of_its_type_is_told_by_name() {
        let mut wrong = object();
        wrong["data"] = json!(["not", "a", "map"]);
        let read = read(&wrong);
        assert_eq!((read.name_any().as_str(), read.uid().as_deref()), ("a", Some("u")));
        assert!(read.object.unwrap_err().error.contains("expected"), "what is wrong");
    }

    #[test]
    fn events_of_a_watch_are_read() {
        // In the order of the API server's own struct (`metav1.WatchEvent`).
        let text = format!(r#"{{"type":"ADDED","object":{}}}"#, object());
        let event: WatchEvent<Lean<ConfigMap>> = serde_json::from_str(&text).unwrap();
        assert!(matches!(event, WatchEvent::Added(Lean { object: Ok(_), .. })));
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        assert!(serde_json::from_str::<Lean<ConfigMap>>("[1]").is_err());
        assert!(serde_json::from_str::<Lean<ConfigMap>>(r#"{"metadata":7}"#).is_err());
    }
}
