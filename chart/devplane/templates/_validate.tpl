{{/* Turns values that can't work together into one sentence that names them and what to set. */}}
{{- define "devplane.validate" -}}
{{- $oidc := .Values.gateway.oidc -}}
{{- if eq .Release.Namespace .Values.gateway.workspaceNamespace -}}
{{- fail (printf "gateway.workspaceNamespace is %q, the namespace of this release: users' pods must not share it with the control plane; install into another one, such as --namespace workspace-operator-system --create-namespace" .Release.Namespace) -}}
{{- end -}}
{{- if and (gt (int .Values.operator.replicas) 1) (not .Values.operator.leaderElect) -}}
{{- fail (printf "operator.replicas is %d while operator.leaderElect is false: all of them would work at once; set operator.leaderElect=true or operator.replicas=1" (int .Values.operator.replicas)) -}}
{{- end -}}
{{- if .Values.gateway.enabled -}}
{{- if not $oidc.existingSecret -}}
{{- $missing := list -}}
{{- range tuple "issuerURL" "clientID" "clientSecret" "redirectURL" -}}
{{- if not (get $oidc .) }}{{ $missing = append $missing (printf "gateway.oidc.%s" .) }}{{ end -}}
{{- end -}}
{{- if $missing -}}
{{- fail (printf "the gateway signs users in at an OpenID Connect provider, but %s %s not set: set %s, or name in gateway.oidc.existingSecret a Secret with the keys issuer-url, client-id, client-secret and redirect-url (or set gateway.enabled=false)" (join ", " $missing) (ternary "is" "are" (eq (len $missing) 1)) (ternary "it" "them" (eq (len $missing) 1))) -}}
{{- end -}}
{{- if not (hasSuffix "/callback" $oidc.redirectURL) -}}
{{- fail (printf "gateway.oidc.redirectURL is %q, which does not end in /callback: set the gateway's public address with that path, such as https://devplane.example.com/callback" $oidc.redirectURL) -}}
{{- end -}}
{{- $loopback := "^http://(localhost|[a-z0-9.-]+[.]localhost|127[.][0-9.]+|\\[::1\\])(:[0-9]+)?(/|$)" -}}
{{- range tuple "issuerURL" "redirectURL" -}}
{{- $url := get $oidc . -}}
{{- if not (or (hasPrefix "https://" $url) (regexMatch $loopback $url)) -}}
{{- fail (printf "gateway.oidc.%s is %q, which is not https: sign-in over a wire that others can read gives the session away; set an https address" . $url) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.gateway.ingress.enabled (not .Values.gateway.ingress.host) -}}
{{- fail "gateway.ingress.enabled is true, but gateway.ingress.host is not set: set the host name of the gateway's public URL" -}}
{{- end -}}
{{- end -}}
{{- end -}}
