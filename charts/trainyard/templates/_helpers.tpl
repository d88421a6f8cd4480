{{/*
Name of what there is once for each release: the release's own name where it says what it is, else with "-trainyard".
A Service's name has no dot and, before Kubernetes 1.36, no digit at its beginning; a release's may have both.
A release's name has at most 53 characters, so this has at most 63.
*/}}
{{- define "trainyard.name" -}}
{{- $name := .Release.Name | replace "." "-" }}
{{- if regexMatch "^[0-9]" $name }}trainyard-{{ $name }}
{{- else if contains "trainyard" $name }}{{ $name }}
{{- else }}{{ $name }}-trainyard
{{- end }}
{{- end }}

{{/* Refuses values that go together badly. */}}
{{- define "trainyard.check" -}}
{{- if and (has .Release.Namespace .Values.watchNamespaces) (not .Values.allowServingReleaseNamespace) }}
{{- fail (printf "watchNamespaces: %s is the namespace of this release: whoever may edit objects there can create tokens of the operator's ServiceAccount, and so has its rights. Install the release into a namespace of its own (--namespace trainyard-%s --create-namespace), or set allowServingReleaseNamespace: true" .Release.Namespace .Release.Namespace) }}
{{- end }}
{{- end }}

{{- define "trainyard.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "trainyard.name" .) }}
{{- end }}

{{/* What a Deployment, a Service and others find the pods by; it never changes. */}}
{{- define "trainyard.selectorLabels" -}}
app.kubernetes.io/name: trainyard
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/*
Labels of an object that has some of its own, each of them once. Its own win over those of every object.
Takes a list: the root, its own labels.
*/}}
{{- define "trainyard.labelsWith" -}}
{{- $root := index . 0 }}
{{- $ours := include "trainyard.selectorLabels" $root | fromYaml }}
{{- $_ := set $ours "app.kubernetes.io/component" "operator" }}
{{- $_ := set $ours "app.kubernetes.io/version" $root.Chart.AppVersion }}
{{- $_ := set $ours "app.kubernetes.io/managed-by" $root.Release.Service }}
{{- $_ := set $ours "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") }}
{{- toYaml (mergeOverwrite dict $root.Values.commonLabels (index . 1) $ours) }}
{{- end }}

{{/* Labels of every object. */}}
{{- define "trainyard.labels" -}}
{{- include "trainyard.labelsWith" (list . dict) }}
{{- end }}

{{/* Labels of the pods: without those that change with every release, which would restart them. */}}
{{- define "trainyard.podLabels" -}}
{{- $ours := include "trainyard.selectorLabels" . | fromYaml }}
{{- $_ := set $ours "app.kubernetes.io/component" "operator" }}
{{- toYaml (mergeOverwrite dict .Values.commonLabels .Values.podLabels $ours) }}
{{- end }}

{{/*
An object with the labels of every object, and annotations.
Takes a list: the root, the object, the annotations.
*/}}
{{- define "trainyard.labelled" -}}
{{- $root := index . 0 }}
{{- $object := index . 1 }}
{{- $metadata := dict "labels" (include "trainyard.labels" $root | fromYaml) }}
{{- with index . 2 }}{{ $_ := set $metadata "annotations" . }}{{ end }}
{{- toYaml (mergeOverwrite $object (dict "metadata" $metadata)) }}
{{- end }}

{{- define "trainyard.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* Whose rights the bindings give: the operator's ServiceAccount. */}}
{{- define "trainyard.subjects" -}}
- kind: ServiceAccount
  name: {{ include "trainyard.serviceAccountName" . | quote }}
  namespace: {{ .Release.Namespace | quote }}
{{- end }}

{{/*
Rules for the lease by which one operator at a time works. A lease cannot be limited by name while it is created, since
its name is not known to the authorizer then.
*/}}
{{- define "trainyard.leaseRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [trainyard]
  verbs: [get, update]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
{{- end }}
