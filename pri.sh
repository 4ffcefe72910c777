echo -19 > /proc/self/autogroup
exec "$@"
