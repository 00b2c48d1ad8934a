{{/* What only web-server needs of Secrets. Argument of each: the root. */}}

{{- define "purchase-pipeline.front-door.env" -}}
{{- if .Values.secrets.webServerPeers }}
- name: RATE_LIMIT_PEER_TOKEN_FILE
  value: /var/run/secrets/peers/token
{{- end }}
{{- end }}

{{- define "purchase-pipeline.front-door.mounts" -}}
{{- if .Values.secrets.webServerPeers }}
- name: peer-token
  mountPath: /var/run/secrets/peers
  readOnly: true
{{- end }}
{{- if .Values.secrets.webServerTls }}
- name: tls
  mountPath: /var/run/secrets/tls
  readOnly: true
{{- end }}
{{- end }}

{{- define "purchase-pipeline.front-door.volumes" -}}
{{- with .Values.secrets.webServerPeers }}
- name: peer-token
  secret:
    secretName: {{ . }}
    items:
      - key: token
        path: token
{{- end }}
{{- with .Values.secrets.webServerTls }}
- name: tls
  secret:
    secretName: {{ . }}
    items:
      - key: tls.crt
        path: tls.crt
      - key: tls.key
        path: tls.key
{{- end }}
{{- end }}
