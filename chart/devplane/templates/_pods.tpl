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
{{- end }}
