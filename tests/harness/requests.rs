//! The API server's own metrics become how many requests it has answered, by verb and resource.

use http::Request;
use kube::Client;
use std::collections::BTreeMap;

/// Keys are a verb, and a resource with its subresource: `PATCH`, `workspaces/status`.
pub type Counts = BTreeMap<(String, String), u64>;

/// All requests since the API server has started. This reading itself is none of a resource.
pub async fn counts(client: &Client) -> Counts {
    let request = Request::get("/metrics").body(vec![]).unwrap();
    let text = client.request_text(request).await.unwrap();
    let mut counts = Counts::new();
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("apiserver_request_total{") else {
            continue;
        };
        let (labels, count) = rest.rsplit_once("} ").unwrap();
        let label = |name: &str| {
            let mut labels = labels.split(',').filter_map(|label| label.split_once('='));
            let (_, value) = labels.find(|(key, _)| *key == name).unwrap();
            value.trim_matches('"')
        };
        let resource = match label("subresource") {
            "" => label("resource").to_owned(),
            subresource => format!("{}/{subresource}", label("resource")),
        };
        // Large numbers are written as 1e+06.
        *counts.entry((label("verb").to_owned(), resource)).or_default() += count.parse::<f64>().unwrap() as u64;
    }
    counts
}

/// What has been added.
pub fn since(before: &Counts, after: &Counts) -> Counts {
    let added = after.iter().map(|(key, count)| {
        let before = before.get(key).copied().unwrap_or_default();
        (key.clone(), count - before)
    });
    added.filter(|(_, count)| *count > 0).collect()
}
