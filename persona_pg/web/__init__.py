"""The dashboard: a small web application over the views and functions of the schema.

    server    binds the socket, runs it
    app       routes
    templating  the templates and their filters
    guard     what goes around every request: host name, session, CSRF, headers
    auth      token, session cookie, CSRF token
    sources   the few connections that all requests share
    pages     what each page shows: loads and names its template
    feed      what has changed is read once for all viewers
    ear       the one LISTEN
    viewer    one open stream of server-sent events
    logtail   new log lines for those who follow a job
    actions   every button: one SQL function each
    ansi      what a job printed, as safe HTML
    plots     numbers as SVG
    shown     times, durations, money, for people

It knows no rule of the queue: what is allowed, the functions decide.
"""
