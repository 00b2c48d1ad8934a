{{/* How management-api follows the need, whoever makes its HPA. Each change is a rebalance: down one at a time. */}}
{{- define "purchase-pipeline.management-api.behavior" -}}
scaleUp:
  stabilizationWindowSeconds: {{ .Values.managementApi.autoscaling.scaleUpSeconds }}
  policies:
    - type: Pods
      value: 2
      periodSeconds: 60
scaleDown:
  stabilizationWindowSeconds: {{ .Values.managementApi.autoscaling.scaleDownSeconds }}
  policies:
    - type: Pods
      value: 1
      periodSeconds: 60
{{- end }}
