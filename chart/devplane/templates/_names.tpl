{{/* Turns the release and the values into the names, labels and image references that the other templates use. */}}

{{/* Labels of every object of the release. Takes (dict "root" $ "component" NAME). */}}
{{- define "devplane.labels" -}}
app.kubernetes.io/name: {{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: devplane
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "devplane.operator.image" -}}
{{ coalesce .Values.operator.image .Values.image (printf "devplane:%s" .Chart.AppVersion) }}
{{- end }}

{{- define "devplane.gateway.image" -}}
{{ coalesce .Values.gateway.image .Values.image (printf "devplane:%s" .Chart.AppVersion) }}
{{- end }}

{{- define "devplane.workspace.image" -}}
{{ default (printf "devplane-workspace:%s" .Chart.AppVersion) .Values.workspace.image }}
{{- end }}

{{/* The Secret with the OIDC client: the caller's, or the one of this chart. */}}
{{- define "devplane.oidc.secretName" -}}
{{ default "workspace-gateway-oidc" .Values.gateway.oidc.existingSecret }}
{{- end }}

{{/* The ConfigMap of customCA, as it is or as the chart makes it; nothing when there is none. */}}
{{- define "devplane.customCA" -}}
{{ ternary .Values.customCA.configMap.name "devplane-custom-ca" (empty .Values.customCA.pem) }}
{{- end }}

{{/* Where the gateway finds authorities, as JSON {name, key}: what is said of it alone, before what is said for all. */}}
{{- define "devplane.gateway.ca" -}}
{{- $own := .Values.gateway.tls.customCABundle -}}
{{- if $own.configMapName -}}
{{- dict "name" $own.configMapName "key" $own.key | toJson -}}
{{- else -}}
{{- dict "name" (include "devplane.customCA" .) "key" (ternary .Values.customCA.configMap.key "ca.crt" (empty .Values.customCA.pem)) | toJson -}}
{{- end -}}
{{- end }}

{{/* The ConfigMap with the authorities of workspaces. */}}
{{- define "devplane.workspaces.ca" -}}
{{ default (include "devplane.customCA" .) .Values.workspace.defaultCABundle.configMapName }}
{{- end }}

{{- define "devplane.gateway.scheme" -}}
{{ ternary "https" "http" (ne .Values.gateway.tls.secretName "") }}
{{- end }}

{{- define "devplane.gateway.port" -}}
{{ default (ternary 443 80 (ne .Values.gateway.tls.secretName "")) .Values.gateway.service.port | int }}
{{- end }}

{{/* Where browsers go, as far as the values tell; empty when only a Secret knows. */}}
{{- define "devplane.gateway.url" -}}
{{ coalesce .Values.gateway.publicURL (trimSuffix "/callback" .Values.gateway.oidc.redirectURL) }}
{{- end }}

{{/* The host of that address. */}}
{{- define "devplane.gateway.host" -}}
{{ (urlParse (include "devplane.gateway.url" .)).hostname }}
{{- end }}

{{/* Where TLS ends that comes in by a Route of OpenShift. */}}
{{- define "devplane.route.termination" -}}
{{ default (ternary "passthrough" "edge" (eq (include "devplane.gateway.scheme" .) "https")) .Values.gateway.route.termination }}
{{- end }}

{{/* The ceilings of amounts that are set, as JSON; nothing when none is. */}}
{{- define "devplane.ceilings" -}}
{{- $ceilings := dict -}}
{{- range $resource, $amount := . -}}
{{- if and $amount (not (kindIs "slice" $amount)) -}}{{- $_ := set $ceilings $resource (toString $amount) -}}{{- end -}}
{{- end -}}
{{- if $ceilings -}}{{- toJson $ceilings -}}{{- end -}}
{{- end }}

{{/* All ceilings that are set, those of egress among them, as JSON; nothing when none is. An empty list is one: nothing may be asked for. */}}
{{- define "devplane.allCeilings" -}}
{{- $ceilings := include "devplane.ceilings" .Values.workspace.ceilings | default "{}" | fromJson -}}
{{- range $list, $items := .Values.workspace.ceilings -}}
{{- if kindIs "slice" $items -}}{{- $_ := set $ceilings $list $items -}}{{- end -}}
{{- end -}}
{{- if $ceilings -}}{{- toJson $ceilings -}}{{- end -}}
{{- end }}

{{/* Namespaces by name alone as a list with commas, as 1.1 had it; any other as JSON. */}}
{{- define "devplane.namespaces" -}}
{{- $plain := true -}}
{{- range . }}{{- if not (kindIs "string" .) }}{{ $plain = false }}{{ end -}}{{ end -}}
{{- if $plain }}{{ include "devplane.commaList" . }}{{ else }}{{ toJson . }}{{ end -}}
{{- end }}

{{/* Not empty when terminals are recorded. */}}
{{- define "devplane.recording" -}}
{{- if and .Values.gateway.sessionRecording.enabled (ne .Values.gateway.sessionRecording.mode "off") }}true{{ end -}}
{{- end }}

{{/* Not empty when what `lookup` has found is this release's, or nothing was found. */}}
{{- define "devplane.isOurs" -}}
{{- if or (not .existing) (eq (dig "metadata" "annotations" "meta.helm.sh/release-name" "" .existing) .root.Release.Name) }}true{{ end -}}
{{- end }}
