{{/* Turns values that can't work together into one sentence that names them and what to set. */}}
{{- define "devplane.validate" -}}
{{- /* Rendered first, as helm goes through templates backwards by name: what is missing would be a nil pointer in the next one. */ -}}
{{- $missing := list -}}
{{- range tuple "customCA" "log" "operator" "gateway" "workspace" "networkPolicy" "canary" "monitoring" "doctor" -}}
{{- if not (hasKey $.Values .) }}{{ $missing = append $missing . }}{{ end -}}
{{- end -}}
{{- range $path := tuple "gateway.httpRoute" "gateway.route" "workspace.networkPolicyBackend" "workspace.ai.egressFQDNs" -}}
{{- $at := $.Values -}}
{{- range splitList "." $path -}}
{{- if hasKey (default dict $at) . }}{{ $at = get $at . }}{{ else }}{{ $at = dict }}{{ $missing = append $missing $path }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $missing = uniq $missing -}}
{{- if $missing -}}
{{- fail (printf "the values have no %s: they are those of an earlier chart, as helm upgrade --reuse-values takes them; use --reset-then-reuse-values, or -f with your values file" (join ", " $missing)) -}}
{{- end -}}
{{- $oidc := .Values.gateway.oidc -}}
{{- if eq .Release.Namespace .Values.gateway.workspaceNamespace -}}
{{- fail (printf "gateway.workspaceNamespace is %q, the namespace of this release: users' pods must not share it with the control plane; install into another one, such as --namespace workspace-operator-system --create-namespace" .Release.Namespace) -}}
{{- end -}}
{{- if and (gt (int .Values.operator.replicas) 1) (not .Values.operator.leaderElect) -}}
{{- fail (printf "operator.replicas is %d while operator.leaderElect is false: all of them would work at once; set operator.leaderElect=true or operator.replicas=1" (int .Values.operator.replicas)) -}}
{{- end -}}
{{- if and .Values.customCA.pem .Values.customCA.configMap.name -}}
{{- fail (printf "customCA.pem and customCA.configMap.name are both set: certificates come from one of them; leave customCA.pem empty to use ConfigMap %s, or customCA.configMap.name" .Values.customCA.configMap.name) -}}
{{- end -}}
{{- if ne .Values.workspace.networkPolicyBackend "cilium" -}}
{{- $names := .Values.workspace.ai.egressFQDNs -}}
{{- range .Values.workspace.classes }}{{ $names = concat $names (default list .egressFQDNs) }}{{ end -}}
{{- if $names -}}
{{- fail (printf "workspace.ai.egressFQDNs names %s, and workspace.networkPolicyBackend is kubernetes: a NetworkPolicy knows addresses alone; list them in workspace.ai.egressCIDRs, or set workspace.networkPolicyBackend=cilium where the cluster runs Cilium" (join ", " $names)) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.canary.holdNewWorkspaces (not .Values.canary.enabled) -}}
{{- fail "canary.holdNewWorkspaces is true while canary.enabled is false: nobody would know whether policies are enforced, and no workspace would ever start; set canary.enabled=true" -}}
{{- end -}}
{{- if and .Values.canary.enabled .Values.imagePullSecrets (not .Values.workspace.pod.imagePullSecrets) (ne .Values.imagePullPolicy "Never") -}}
{{- fail (printf "imagePullSecrets is set while workspace.pod.imagePullSecrets is empty: the canary runs the operator's image in namespace %s, and can't pull it with a Secret of another namespace; make one there and name it in workspace.pod.imagePullSecrets={%s} (or set canary.enabled=false)" .Values.gateway.workspaceNamespace (first .Values.imagePullSecrets).name) -}}
{{- end -}}
{{- if and .Values.monitoring.serviceMonitor.enabled .Values.networkPolicy.enabled (not .Values.networkPolicy.metricsNamespaces) -}}
{{- fail "monitoring.serviceMonitor.enabled is true, but networkPolicy.metricsNamespaces is empty: Prometheus would be kept from the operator, and alerts would tell that there is none; name the namespace of your Prometheus, such as networkPolicy.metricsNamespaces={monitoring} (or set networkPolicy.enabled=false)" -}}
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
{{- include "devplane.validate.ways" . -}}
{{- end -}}
{{- end -}}

{{/* The ways in. An Ingress and an HTTPRoute go together, for moving from one to the other; a Route goes with neither, since OpenShift makes Routes of Ingresses
   too, and the first one keeps the host. */}}
{{- define "devplane.validate.ways" -}}
{{- $gateway := .Values.gateway -}}
{{- $scheme := include "devplane.gateway.scheme" . -}}
{{- $ways := list -}}
{{- range tuple "ingress" "httpRoute" "route" -}}
{{- if (get $gateway .).enabled }}{{ $ways = append $ways (printf "gateway.%s.enabled" .) }}{{ end -}}
{{- end -}}
{{- if and $gateway.route.enabled (gt (len $ways) 1) -}}
{{- fail (printf "%s are true: a Route of OpenShift goes with no other way in, as one host belongs to one of them; leave one of them on" (join " and " $ways)) -}}
{{- end -}}
{{- $host := default "devplane.example.com" (include "devplane.gateway.host" .) -}}
{{- if and $gateway.ingress.enabled (not $gateway.ingress.host) -}}
{{- fail (printf "gateway.ingress.enabled is true, but gateway.ingress.host is not set: set the host name of the gateway's public URL, gateway.ingress.host=%s" $host) -}}
{{- end -}}
{{- if $gateway.httpRoute.enabled -}}
{{- if not $gateway.httpRoute.parentRefs -}}
{{- fail "gateway.httpRoute.enabled is true, but gateway.httpRoute.parentRefs is empty: name the Gateway that the route belongs to, such as {name: internal, namespace: gateways}" -}}
{{- end -}}
{{- if not $gateway.httpRoute.hostnames -}}
{{- fail (printf "gateway.httpRoute.enabled is true, but gateway.httpRoute.hostnames is empty: set the host name of the gateway's public URL, gateway.httpRoute.hostnames={%s}" $host) -}}
{{- end -}}
{{- end -}}
{{- if $gateway.route.enabled -}}
{{- $termination := include "devplane.route.termination" . -}}
{{- if not $gateway.route.host -}}
{{- fail (printf "gateway.route.enabled is true, but gateway.route.host is not set: set the host name of the gateway's public URL, gateway.route.host=%s" $host) -}}
{{- end -}}
{{- if and (eq $termination "edge") (eq $scheme "https") -}}
{{- fail "gateway.route.termination is edge, for which the gateway serves plain HTTP, but gateway.tls.secretName is set: set gateway.route.termination=reencrypt or passthrough, or leave gateway.tls.secretName empty" -}}
{{- end -}}
{{- if and (ne $termination "edge") (eq $scheme "http") -}}
{{- fail (printf "gateway.route.termination is %s, for which the gateway serves HTTPS itself: set gateway.tls.secretName to a kubernetes.io/tls Secret, or gateway.route.termination=edge" $termination) -}}
{{- end -}}
{{- if and $gateway.route.destinationCACertificate (ne $termination "reencrypt") -}}
{{- fail (printf "gateway.route.destinationCACertificate is for gateway.route.termination=reencrypt, but that is %s: leave it empty" $termination) -}}
{{- end -}}
{{- if and $gateway.route.certificateSecretName (eq $termination "passthrough") -}}
{{- fail "gateway.route.certificateSecretName is for routers that end TLS, but gateway.route.termination is passthrough: leave it empty, or set gateway.route.termination=reencrypt" -}}
{{- end -}}
{{- end -}}
{{- end -}}
