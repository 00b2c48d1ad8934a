{{/* What both services, as clients of Kafka and users of one token, have alike. Argument of each: the root. */}}

{{- define "purchase-pipeline.kafka.servers" -}}
{{- if .Values.kafka.development -}}
{{ include "purchase-pipeline.host" (list . "kafka") }}:9092
{{- else -}}
{{ .Values.kafka.bootstrapServers }}
{{- end }}
{{- end }}

{{/* These two are empty for no. */}}
{{- define "purchase-pipeline.kafka.sasl" -}}
{{- if hasPrefix "sasl_" .Values.kafka.security.protocol }}yes{{ end }}
{{- end }}

{{- define "purchase-pipeline.kafka.tls" -}}
{{- if hasSuffix "ssl" .Values.kafka.security.protocol }}yes{{ end }}
{{- end }}

{{- define "purchase-pipeline.client.settings" -}}
KAFKA_BOOTSTRAP_SERVERS: {{ include "purchase-pipeline.kafka.servers" . | quote }}
KAFKA_TOPIC: {{ .Values.kafka.topic | quote }}
KAFKA_DEAD_LETTER_TOPIC: {{ .Values.kafka.deadLetterTopic | quote }}
KAFKA_TOPIC_PARTITIONS: {{ .Values.kafka.partitions | quote }}
{{- if not .Values.kafka.createTopics }}
KAFKA_CREATE_TOPICS: "false"
{{- end }}
{{- if ne .Values.kafka.security.protocol "plaintext" }}
KAFKA_SECURITY_PROTOCOL: {{ .Values.kafka.security.protocol }}
{{- end }}
{{- if include "purchase-pipeline.kafka.sasl" . }}
KAFKA_SASL_MECHANISM: {{ .Values.kafka.security.mechanism }}
{{- end }}
{{- if include "purchase-pipeline.kafka.tls" . }}
KAFKA_SSL_CA_FILE: /var/run/secrets/kafka/ca.crt
{{- end }}
DRAIN_DELAY_MS: {{ .Values.shutdown.drainDelayMs | int64 | quote }}
DRAIN_TIMEOUT_MS: {{ .Values.shutdown.drainTimeoutMs | int64 | quote }}
{{- with .Values.monitoring.metricsHttpPrefix }}
METRICS_HTTP_PREFIX: {{ . }}
{{- end }}
{{- end }}

{{- define "purchase-pipeline.client.env" -}}
{{- if include "purchase-pipeline.kafka.sasl" . }}
- name: KAFKA_SASL_USERNAME
  valueFrom:
    secretKeyRef:
      name: {{ .Values.secrets.kafka }}
      key: username
- name: KAFKA_SASL_PASSWORD_FILE
  value: /var/run/secrets/kafka/password
{{- end }}
{{- if .Values.secrets.managementApi }}
- name: MANAGEMENT_API_TOKEN_FILE
  value: /var/run/secrets/management-api/token
{{- end }}
{{- end }}

{{- define "purchase-pipeline.client.mounts" -}}
{{- if ne .Values.kafka.security.protocol "plaintext" }}
- name: kafka-credentials
  mountPath: /var/run/secrets/kafka
  readOnly: true
{{- end }}
{{- if .Values.secrets.managementApi }}
- name: management-api-token
  mountPath: /var/run/secrets/management-api
  readOnly: true
{{- end }}
{{- end }}

{{- define "purchase-pipeline.client.volumes" -}}
{{- if ne .Values.kafka.security.protocol "plaintext" }}
- name: kafka-credentials
  secret:
    secretName: {{ .Values.secrets.kafka }}
    items:
      {{- if include "purchase-pipeline.kafka.sasl" . }}
      - key: password
        path: password
      {{- end }}
      {{- if include "purchase-pipeline.kafka.tls" . }}
      - key: ca.crt
        path: ca.crt
      {{- end }}
{{- end }}
{{- with .Values.secrets.managementApi }}
- name: management-api-token
  secret:
    secretName: {{ . }}
    items:
      - key: token
        path: token
{{- end }}
{{- end }}

{{/* The way to Kafka, as a rule of a NetworkPolicy. */}}
{{- define "purchase-pipeline.client.egress" -}}
{{- if .Values.kafka.development }}
- to:
    - podSelector:
        matchLabels:
          app: kafka
  ports:
    - protocol: TCP
      port: 9092
{{- else }}
- to:
    {{- range .Values.kafka.networks }}
    - ipBlock:
        cidr: {{ . }}
    {{- end }}
  ports:
    {{- range regexFindAll ":[0-9]+" .Values.kafka.bootstrapServers -1 | uniq }}
    - protocol: TCP
      port: {{ trimPrefix ":" . }}
    {{- end }}
{{- end }}
{{- end }}
