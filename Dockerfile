# One image with all programs: /usr/local/bin/auth, mailer and socket, and parley, which is all in one.
# Nothing else is in it but the certificates of public authorities; there is no shell, and it does not run as root.
#
#   docker build -t parley --build-arg COMMIT=$(git rev-parse HEAD) .
#   docker run parley /usr/local/bin/auth --help
#   docker run -p 127.0.0.1:5002:5002 -v parley:/data parley /usr/local/bin/parley --listen :5002 --data /data
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
# What --version says; the build has the files and not their history.
ARG COMMIT=
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -ldflags="-s -w -X github.com/parley-chat/parley/apps/internal/config.commit=$COMMIT" -o /out/bin/ ./apps/auth ./apps/mailer ./apps/parley ./apps/socket
RUN mkdir -p /out/data /out/tmp && chmod 1777 /out/tmp

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/bin/ /usr/local/bin/
# A volume that is empty takes its owner from here.
COPY --from=build --chown=65532:65532 /out/data /data
COPY --from=build /out/tmp /tmp
ENV PATH=/usr/local/bin
USER 65532:65532
WORKDIR /data
CMD ["/usr/local/bin/auth"]
