# Targets: worker (the default; beat and the migration, too), api (the example host), flower, ui (the page of the runs).
FROM python:3.13-slim AS build
WORKDIR /source
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY constraints.txt ./
RUN pip install --constraint constraints.txt pip
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY page page
COPY execution_logger execution_logger
RUN pip install --constraint constraints.txt --build-constraint constraints.txt '.[worker,prometheus]'

FROM build AS build-api
RUN pip install --constraint constraints.txt fastapi uvicorn

FROM build AS build-flower
RUN pip install --constraint constraints.txt flower

# pip finds the package installed, and adds what the extra needs. Without its page the image is of no use.
FROM build AS build-ui
RUN pip install --constraint constraints.txt 'celery-execution-logger[ui]' \
    && test -f /venv/lib/python3.13/site-packages/execution_logger/web/static/page.js

# What runs has neither the sources nor a compiler, and can write to two folders only: a host's journal, and
# the lock of Beat. A volume that is mounted there belongs to the user, as the folder does.
FROM python:3.13-slim AS base
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin worker \
    && install --directory --owner=10001 --mode=0700 \
        /var/lib/execution-logger /var/lib/execution-logger-services
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    EXECUTION_LOGGER_JOURNAL_DIRECTORY=/var/lib/execution-logger \
    EXECUTION_LOGGER_SERVICE_DIRECTORY=/var/lib/execution-logger-services
WORKDIR /app
COPY tasks tasks
COPY deploy/check_page.py deploy/
USER 10001

FROM base AS api
COPY --from=build-api /venv /venv
COPY examples examples
EXPOSE 8000
# A process that answers, and has its journal on the disk.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
    CMD ["python", "deploy/check_page.py", "http://127.0.0.1:8000/health", "\"journal_error\":null"]
CMD ["uvicorn", "examples.fastapi_app:app", "--host", "0.0.0.0", "--port", "8000"]

FROM base AS flower
COPY --from=build-flower /venv /venv
ENV FLOWER_ADDRESS=0.0.0.0
EXPOSE 5555
# The page that it takes the broker for.
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s \
    CMD ["python", "deploy/check_page.py", "http://127.0.0.1:5555/broker", "logs"]
CMD ["execution-logger", "flower"]

FROM base AS ui
COPY --from=build-ui /venv /venv
EXPOSE 8420
# A page that answers; whether the database does, it says itself.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
    CMD ["python", "deploy/check_page.py", "http://127.0.0.1:8420/alive", "ok"]
CMD ["execution-logger", "ui", "--address", "0.0.0.0"]

FROM base AS worker
COPY --from=build /venv /venv
# This very worker takes from the queue, and has its table.
HEALTHCHECK --interval=60s --timeout=20s --start-period=20s CMD ["execution-logger", "health"]
# It starts Celery's worker again when that dies, without the message that killed it.
CMD ["execution-logger", "worker"]
