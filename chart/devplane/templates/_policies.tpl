{{/* Turns values into the parts of a NetworkPolicy. */}}

{{/* Peers from a list of {namespace or namespaceLabels, podLabels} and {cidr}. */}}
{{- define "devplane.peers" -}}
{{- range . }}
{{- if .cidr }}
- ipBlock:
    cidr: {{ .cidr | quote }}
{{- else }}
- namespaceSelector:
    matchLabels:
      {{- toYaml (default (dict "kubernetes.io/metadata.name" .namespace) .namespaceLabels) | nindent 6 }}
  {{- with .podLabels }}
  podSelector:
    matchLabels:
      {{- toYaml . | nindent 6 }}
  {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Peers from a list of names of namespaces. */}}
{{- define "devplane.namespacePeers" -}}
{{- $peers := list -}}
{{- range . }}{{ $peers = append $peers (dict "namespace" .) }}{{ end -}}
{{- include "devplane.peers" $peers }}
{{- end }}

{{/* What operator and gateway alike may reach: names, the API server, and what the values add. */}}
{{- define "devplane.commonEgress" -}}
{{- $dns := .Values.workspace.dns -}}
{{- $server := .Values.networkPolicy.apiServer -}}
{{- $port := include "devplane.text" $dns.port -}}
# The cluster's DNS.
- ports:
  - {protocol: UDP, port: {{ $port }}}
  - {protocol: TCP, port: {{ $port }}}
  to:
  - namespaceSelector:
      matchLabels:
        kubernetes.io/metadata.name: {{ $dns.namespace }}
    podSelector:
      matchLabels:
        {{- toYaml (default (dict "k8s-app" "kube-dns") $dns.podLabels) | nindent 8 }}
{{- with $dns.nodeLocal }}
- ports:
  - {protocol: UDP, port: 53}
  - {protocol: TCP, port: 53}
  to:
  {{- range . }}
  - ipBlock:
      cidr: {{ printf "%s/%d" . (ternary 128 32 (contains ":" .)) }}
  {{- end }}
{{- end }}
# The API server.
- ports:
  {{- range $server.ports }}
  - {protocol: TCP, port: {{ include "devplane.text" . }}}
  {{- end }}
  {{- with $server.cidrs }}
  to:
  {{- range . }}
  - ipBlock:
      cidr: {{ . | quote }}
  {{- end }}
  {{- end }}
{{- with .Values.networkPolicy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The port of the issuer, as far as the values tell. */}}
{{- define "devplane.oidc.port" -}}
{{- $url := ternary "" .Values.gateway.oidc.issuerURL (ne .Values.gateway.oidc.existingSecret "") -}}
{{- $port := regexFind ":[0-9]+$" (urlParse $url).host | trimPrefix ":" -}}
{{ default (ternary "80" "443" (hasPrefix "http://" $url)) $port }}
{{- end }}
