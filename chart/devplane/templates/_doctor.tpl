{{/* Turns the values into what the doctor runs with in the cluster: as the test of the release, and as a hook of it. Everything here is a hook itself, made before
     the doctor runs and removed after it. */}}

{{/* When it is there. */}}
{{- define "devplane.doctor.hooks" -}}
{{- $hooks := list -}}
{{- if .Values.doctor.test }}{{ $hooks = append $hooks "test" }}{{ end -}}
{{- if .Values.doctor.hook }}{{ $hooks = concat $hooks (list "post-install" "post-upgrade") }}{{ end -}}
{{ join "," $hooks }}
{{- end }}

{{/* Metadata of an object that is there before the doctor. Takes (dict "root" $ "namespace" NAMESPACE); no namespace for what is in none. */}}
{{- define "devplane.doctor.metadata" -}}
name: {{ if .namespace }}workspace-doctor{{ else }}devplane-doctor.{{ .root.Release.Namespace }}{{ end }}
{{- with .namespace }}
namespace: {{ . }}
{{- end }}
labels:
  {{- include "devplane.labels" (dict "root" .root "component" "workspace-doctor") | nindent 2 }}
annotations:
  helm.sh/hook: {{ include "devplane.doctor.hooks" .root }}
  helm.sh/hook-weight: "-5"
  helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{/* What it reads of the values, as JSON, which is YAML: all but secrets, and but objects that are not the chart's. */}}
{{- define "devplane.doctor.values" -}}
{{- $values := omit (deepCopy .Values) "extraObjects" "global" -}}
{{- $_ := unset $values.gateway.oidc "clientSecret" -}}
{{ toJson $values }}
{{- end }}

{{/* The Job that it runs as. Takes (dict "root" $ "name" NAME "hook" EVENTS "retries" NUMBER). Helm removes it when nothing is wrong. When something is, it stays
     for an hour, to be looked at, and then Kubernetes removes it, as helm uninstall removes no hooks. What it says is printed by Helm 3.18 and newer. */}}
{{- define "devplane.doctor.job" -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "devplane.labels" (dict "root" .root "component" "workspace-doctor") | nindent 4 }}
  annotations:
    helm.sh/hook: {{ .hook }}
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
    helm.sh/hook-output-log-policy: hook-succeeded,hook-failed
spec:
  backoffLimit: {{ .retries }}
  activeDeadlineSeconds: 300
  ttlSecondsAfterFinished: 3600
  template:
    metadata:
      labels:
        app: workspace-doctor
        {{- include "devplane.labels" (dict "root" .root "component" "workspace-doctor") | nindent 8 }}
    spec:
      {{- include "devplane.doctor.pod" .root | nindent 6 }}
{{- end }}

{{/* The pod's spec. */}}
{{- define "devplane.doctor.pod" -}}
{{- $ca := include "devplane.gateway.ca" . | fromJson -}}
restartPolicy: Never
serviceAccountName: workspace-doctor
automountServiceAccountToken: true
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "devplane.podSecurity" . | nindent 2 }}
{{- with .Values.operator.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.operator.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
- name: doctor
  image: {{ include "devplane.operator.image" . | quote }}
  {{- with .Values.imagePullPolicy }}
  imagePullPolicy: {{ . }}
  {{- end }}
  args:
  - doctor
  - --values=/etc/devplane/doctor/values.yaml
  - --namespace={{ .Release.Namespace }}
  # Who installs is somebody else.
  - --skip={{ join "," (prepend .Values.doctor.skip "DP0301") }}
  - --fail-on={{ .Values.doctor.failOn }}
  {{- if .Values.gateway.enabled }}
  env:
  {{- range $name, $key := dict "OIDC_ISSUER_URL" "issuer-url" "OIDC_CLIENT_ID" "client-id" "OIDC_CLIENT_SECRET" "client-secret" "OIDC_REDIRECT_URL" "redirect-url" }}
  - name: {{ $name }}
    valueFrom:
      secretKeyRef:
        name: {{ include "devplane.oidc.secretName" $ }}
        key: {{ $key }}
        # The doctor tells better what is missing.
        optional: true
  {{- end }}
  {{- end }}
  resources:
    {{- toYaml .Values.doctor.resources | nindent 4 }}
  securityContext:
    {{- include "devplane.containerSecurity" . | nindent 4 }}
  volumeMounts:
  - name: values
    mountPath: /etc/devplane/doctor
    readOnly: true
  {{- if $ca.name }}
  - name: ca
    mountPath: /etc/devplane/ca
    readOnly: true
  {{- end }}
volumes:
- name: values
  secret:
    secretName: workspace-doctor
{{- if $ca.name }}
- name: ca
  configMap:
    name: {{ $ca.name }}
    optional: true
    items:
    - {key: {{ $ca.key | quote }}, path: {{ $ca.key | quote }}}
{{- end }}
{{- end }}
