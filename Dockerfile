# Targets: worker (the default), api (the example host), flower.
FROM python:3.13-slim AS build
WORKDIR /source
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY constraints.txt ./
RUN pip install --constraint constraints.txt pip
COPY pyproject.toml README.md LICENSE ./
COPY execution_logger execution_logger
RUN pip install --constraint constraints.txt --build-constraint constraints.txt '.[worker]'

FROM build AS build-api
RUN pip install --constraint constraints.txt fastapi uvicorn

FROM build AS build-flower
RUN pip install --constraint constraints.txt flower

FROM python:3.13-slim AS base
# The folder is for the journal of a host: a volume that is mounted there belongs to the user, as the folder does.
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin worker \
    && install --directory --owner=10001 --mode=0700 /var/lib/execution-logger
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
COPY tasks tasks
USER 10001

FROM base AS api
COPY --from=build-api /venv /venv
COPY examples examples
ENV EXECUTION_LOGGER_JOURNAL_DIRECTORY=/var/lib/execution-logger
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health')"]
CMD ["uvicorn", "examples.fastapi_app:app", "--host", "0.0.0.0", "--port", "8000"]

FROM base AS flower
COPY --from=build-flower /venv /venv
COPY scripts/start_flower.sh scripts/
ENV FLOWER_ADDRESS=0.0.0.0
EXPOSE 5555
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5555/healthcheck')"]
CMD ["scripts/start_flower.sh"]

FROM base AS worker
COPY --from=build /venv /venv
# The worker answers only while it is connected to the broker.
HEALTHCHECK --interval=60s --timeout=20s --start-period=20s \
    CMD ["sh", "-c", "celery -A tasks inspect ping --destination \"celery@$HOSTNAME\" --timeout 10"]
# It starts Celery's worker again when that dies, without the message that killed it.
CMD ["execution-logger", "worker"]
