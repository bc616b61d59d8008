{{- /* A value that may be `on` or `off`: YAML 1.1 reads these words as true and false. */ -}}
{{- define "smi-mesh.switch" -}}
{{- if kindIs "bool" . }}{{ ternary "on" "off" . }}{{ else }}{{ . }}{{ end }}
{{- end -}}
