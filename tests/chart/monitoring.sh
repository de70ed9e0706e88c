# shellcheck shell=bash disable=SC2154  # here, chart and work come from run.sh
# Turns what the chart has for Prometheus and Grafana into claims, by promtool.

# Each query of the dashboard as a recording rule, which is how promtool reads a query.
queries_as_rules() { # FILE
  jq '[.panels[].targets[]?.expr | gsub("\\$__rate_interval"; "5m") | gsub("\\$namespace"; "n")]
    | if length > 15 then . else error("the dashboard has \(length) queries") end
    | {groups: [{name: "dashboard", rules: (to_entries | map({record: "query:\(.key)", expr: .value}))}]}' "$1"
}

# What Grafana itself would trip over: panels of one id, or one above the other.
well_placed() { # FILE
  jq -e '([.panels[].id] | length == (unique | length))
    and ([.panels[].gridPos | .y as $y | .x as $x | range($y; $y + .h) as $row | range($x; $x + .w) | [$row, .]] | length == (unique | length))
    and all(.panels[].gridPos; .x + .w <= 24)' "$1"
}

every_alert_says_what_to_do() { # FILE
  jq -e 'all(.spec.groups[].rules[]; (.for and .labels.severity and .annotations.summary and .annotations.description)
    and (.annotations.runbook | length > 100))' "$1"
}

# Each alert of RULES is in the page, and in the tests of alerts.
alerts_are_told_and_tested() { # RULES
  local alert
  while read -r alert; do
    grep -q "^| \`$alert\`" "$repo/docs/reference/metrics.md" || { echo "docs/reference/metrics.md has no row for $alert"; return 1; }
    grep -q "alertname=\"$alert\"" "$here/alerts.test.yaml" || { echo "alerts.test.yaml never fires $alert"; return 1; }
  done < <(jq -r '.spec.groups[].rules[].alert' "$1")
}

monitoring() { # [--update]
  local d=$work/monitoring promtool
  mkdir "$d"
  render monitoring >"$d/all.yaml"
  sed '/^  devplane.json: |$/,/^---$/{/^    /d}' <(render monitoring -s templates/monitoring.yaml) >"$d/golden.yaml"
  [ "${1-}" != --update ] || cp "$d/golden.yaml" "$here/golden/monitoring.yaml"
  claim "renders monitoring as golden/monitoring.yaml" diff -u "$here/golden/monitoring.yaml" "$d/golden.yaml"
  claim "helm lint with monitoring" helm lint --quiet "$chart" -f "$here/values/monitoring.yaml" --kube-version 1.36.0
  # The doctor's values name it, switched off.
  denied "nothing of it is there unless asked for" grep -lE 'monitoring\.coreos\.com|grafana' \
    <(render minimal --no-hooks) <(render operator-only --no-hooks) <(render existing-secret --no-hooks)
  claim "without policies monitors need no namespace" render minimal --set monitoring.serviceMonitor.enabled=true,networkPolicy.enabled=false
  render operator-only --set monitoring.serviceMonitor.enabled=true,networkPolicy.metricsNamespaces={monitoring} >"$d/operator-only.yaml"
  claim "the operator alone has a monitor of its own" grep -q 'kind: ServiceMonitor' "$d/operator-only.yaml"
  denied "and none of a gateway" grep -q 'name: workspace-gateway' "$d/operator-only.yaml"
  claim "a gateway that serves HTTPS is scraped by HTTPS, under the name in its certificate" \
    grep -q 'scheme: https *tlsConfig: *serverName: devplane.example.test' \
    <(render full --set monitoring.serviceMonitor.enabled=true -s templates/monitoring.yaml | tr -d '\n')
  refused "a switch" "/monitoring/dashboard/enabled" render minimal --set-string monitoring.dashboard.enabled=yes
  refused "a label" "/monitoring/prometheusRule/labels/release" render minimal --set monitoring.prometheusRule.labels.release=1
  refused "an interval" "/monitoring/serviceMonitor/interval" render minimal --set monitoring.serviceMonitor.interval=fast
  refused "an unknown key of it" "additional properties 'alerts' not allowed" render minimal --set monitoring.alerts=true

  object PrometheusRule devplane "$d/all.yaml" >"$d/rules.json"
  object ConfigMap devplane-dashboard "$d/all.yaml" | jq -j '.data["devplane.json"]' >"$d/dashboard.json"
  claim "the dashboard is the file" diff "$chart/dashboards/devplane.json" "$d/dashboard.json"
  claim "Grafana's types take the dashboard" "$here/dashboard/check.sh" "$d/dashboard.json"
  jq '.panels[1].gridPos.z = 1 | .panels[1].fieldConfig.defaults.thresholds.mode = "relative"' "$d/dashboard.json" >"$d/wrong.json"
  refused "they take no key that there is not" "'\"z\"' does not exist" "$here/dashboard/check.sh" "$d/wrong.json"
  refused "nor a value that is not allowed" 'Type '"'"'"relative"'"'"' is not assignable' "$here/dashboard/check.sh" "$d/wrong.json"
  claim "its panels have a place each" well_placed "$d/dashboard.json"
  claim "every alert says what to look at" every_alert_says_what_to_do "$d/rules.json"
  claim "every alert is documented and tested" alerts_are_told_and_tested "$d/rules.json"
  promtool=$("$here/promtool.sh" 2>"$d/promtool.log" | tail -n 1) || { no "promtool is there" "$(cat "$d/promtool.log")"; return; }
  jq .spec "$d/rules.json" >"$d/rules.yaml"
  cp "$here/alerts.test.yaml" "$d"
  claim "promtool takes the alerts" "$promtool" check rules "$d/rules.yaml"
  claim "the alerts fire when they should, and not otherwise" "$promtool" test rules "$d/alerts.test.yaml"
  queries_as_rules "$d/dashboard.json" >"$d/queries.json"
  claim "promtool takes the dashboard's queries" "$promtool" check rules "$d/queries.json"
}
