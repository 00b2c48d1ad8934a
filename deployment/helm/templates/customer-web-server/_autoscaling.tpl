{{/* How web-server follows the need, whoever makes its HPA: fast up, by halves down. */}}
{{- define "purchase-pipeline.web-server.behavior" -}}
scaleUp:
  stabilizationWindowSeconds: {{ .Values.webServer.autoscaling.scaleUpSeconds }}
  policies:
    - type: Percent
      value: 100
      periodSeconds: 15
    - type: Pods
      value: 4
      periodSeconds: 15
  selectPolicy: Max
scaleDown:
  stabilizationWindowSeconds: {{ .Values.webServer.autoscaling.scaleDownSeconds }}
  policies:
    - type: Percent
      value: 50
      periodSeconds: 60
{{- end }}
