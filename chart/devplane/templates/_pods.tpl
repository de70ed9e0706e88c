{{/* Turns values into the parts of a pod that operator and gateway share. */}}

{{/* A value as text: whole numbers without an exponent. */}}
{{- define "devplane.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end }}

{{/* Environment variables, without the empty ones: the executable knows their defaults. Takes a dict of name and value. */}}
{{- define "devplane.env" -}}
{{- range $name, $value := . }}
{{- with include "devplane.text" $value }}
- name: {{ $name }}
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* A list, joined by commas. A lone comma is the empty list; an empty variable would mean the built-in default. */}}
{{- define "devplane.commaList" -}}
{{- $items := list -}}
{{- range . }}{{ $items = append $items (include "devplane.text" .) }}{{ end -}}
{{ $items | join "," | default "," }}
{{- end }}

{{/* Labels as key=value, joined by commas. */}}
{{- define "devplane.labelList" -}}
{{- $items := list -}}
{{- range $key, $value := . }}{{ $items = append $items (printf "%s=%s" $key $value) }}{{ end -}}
{{ join "," $items }}
{{- end }}

{{/* No user and group are given: the image's own is numeric and not root, and OpenShift assigns another one. */}}
{{- define "devplane.podSecurity" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "devplane.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where the pods may and prefer to run. Takes (dict "app" NAME "values" VALUES). */}}
{{- define "devplane.scheduling" -}}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
{{- if .values.affinity }}
  {{- toYaml .values.affinity | nindent 2 }}
{{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            app: {{ .app }}
{{- end }}
topologySpreadConstraints:
{{- $own := dict "matchLabels" (dict "app" .app) -}}
{{- range .values.topologySpreadConstraints }}
{{- if hasKey . "labelSelector" }}
{{ toYaml (list .) }}
{{- else }}
{{ toYaml (list (merge (dict "labelSelector" $own) .)) }}
{{- end }}
{{- else }}
- maxSkew: 1
  topologyKey: topology.kubernetes.io/zone
  whenUnsatisfiable: ScheduleAnyway
  # A rollout counts its own pods alone.
  matchLabelKeys: [pod-template-hash]
  labelSelector:
    {{- toYaml $own | nindent 4 }}
{{- end }}
{{- end }}

{{/* A PodDisruptionBudget, and nothing for a single replica, where it would only stand in the way. Takes (dict "root" $ "app" NAME "replicas" NUMBER). */}}
{{- define "devplane.disruptionBudget" -}}
{{- if gt (int .replicas) 1 }}
# Nodes are drained one replica at a time.
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .app }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "devplane.labels" (dict "root" .root "component" .app) | nindent 4 }}
spec:
  maxUnavailable: 1
  # A pod that is not ready serves nobody, and must not keep its node from being drained.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      app: {{ .app }}
{{- end }}
{{- end }}
