{{- define "vehr.labels" -}}
{{ include "vehr.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "vehr.selector" -}}
app.kubernetes.io/name: vehr
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "vehr.name" -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}-vehr
{{- end }}

{{/* The pod, the same for both kinds of store. */}}
{{- define "vehr.pod" -}}
metadata:
  labels:
    {{- include "vehr.selector" . | nindent 4 }}
  annotations:
    checksum/settings: {{ include (print $.Template.BasePath "/configmap.yaml") . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "vehr.name" . }}
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 40
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: vehr
      image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve, --host, "0.0.0.0", --port, "8080", --workers, {{ .Values.workers | quote }}]
      ports:
        - name: http
          containerPort: 8080
      envFrom:
        - configMapRef:
            name: {{ include "vehr.name" . }}
        {{- with .Values.existingSecret }}
        - secretRef:
            name: {{ . }}
        {{- end }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      # Degraded (no room to write) is still alive and ready: reads go on.
      startupProbe:
        {{- include "vehr.probe" . | nindent 8 }}
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        {{- include "vehr.probe" . | nindent 8 }}
        periodSeconds: 10
        failureThreshold: 6
      readinessProbe:
        {{- include "vehr.probe" . | nindent 8 }}
        periodSeconds: 3
        failureThreshold: 2
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - name: data
          mountPath: /data
        - name: tmp
          mountPath: /tmp
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  volumes:
    - name: tmp
      emptyDir:
        sizeLimit: 512Mi
{{- end }}

{{/* The server answers to its own names alone. */}}
{{- define "vehr.probe" -}}
httpGet:
  path: /health
  port: http
  httpHeaders:
    - name: Host
      value: localhost
timeoutSeconds: 5
{{- end }}

{{- define "vehr.claim" -}}
accessModes: [{{ if eq .Values.store "sqlite" }}ReadWriteOnce{{ else }}ReadWriteMany{{ end }}]
{{- with .Values.persistence.storageClass }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests:
    storage: {{ .Values.persistence.size }}
{{- end }}
