# What the pages say is so: nginx takes each of their examples and says what
# the tables of errors say, each message of the module is on a page, and the
# Synopsis of README.md does what it promises. promtool takes the alerts.

use strict;
use warnings;

use File::Temp;
use IO::Socket::UNIX;
use JSON::PP;
use Test::More;
use Time::HiRes qw(sleep time);

use Promtool;

my $build = $ENV{TEST_BUILD} // 'build';
my @nginx = split ' ', $ENV{TEST_NGINX_BINARY} // 'nginx';
my $modules = join '', map { "load_module $_;\n" }
    split ' ', $ENV{TEST_NGINX_LOAD_MODULES} // '';

my $dir = File::Temp->newdir();
chmod 0755, $dir;              # workers of another user have their sockets here

my %context;
@context{qw(events http)} = ('main') x 2;
@context{qw(trace_exporter trace_service_name trace_resource map log_format
    split_clients upstream server lua_package_path init_by_lua_block)}
    = ('http') x 10;
$context{location} = 'server';

my $synopsis;

for my $page ('README.md', glob 'docs/*.md') {
    my ($section, $line, $example, $rules, $n) = ('', 0);

    for (split /^/, slurp($page)) {
        $line++;
        $section = $1 if /^#+\s+(.*)/ && !defined $example;

        if (/^```nginx$/) {
            $example = '';
            $n = $line;

        } elsif (/^```yaml$/) {
            $rules = '';
            $n = $line;

        } elsif (/^```$/ && defined $rules) {
            Promtool::check('rules', $rules, "$page:$n: alerts")
                if $rules =~ /^groups:/;
            undef $rules;

        } elsif (defined $rules) {
            $rules .= $_;

        } elsif (/^```$/ && defined $example) {
            my $said = check_configuration(configuration($example));

            is($said, '', "$page:$n: nginx takes the example");
            $synopsis = $example
                if $page eq 'README.md' && $section eq 'Synopsis'
                    && !defined $synopsis;
            undef $example;

        } elsif (defined $example) {
            $example .= $_;

        } elsif ($page eq 'docs/directives.md' && (my ($code, $message)
            = /^\| `([^`]+)` \| `([^`]+)` \|$/))
        {
            my $wrong = $code;

            # within the block, unless it is the block
            $wrong = 'trace_exporter internal { '
                . ($wrong =~ /^endpoint/ ? '' : 'endpoint unix:/s; ')
                . "$wrong }"
                if $wrong !~ /^trace/;
            $message = moved($message);

            like(check_configuration(configuration($wrong)),
                qr/\[emerg\] \Q$message\E/, "$page:$line: $code");
        }
    }
}

messages();
synopsis();
done_testing();


sub slurp {
    my ($file) = @_;

    open my $in, '<', $file or die "$file: $!\n";
    local $/;
    return scalar <$in>;
}


# the folders that examples name become that of this test

sub moved {
    my ($text) = @_;

    $text =~ s{/run/otel/|/var/log/nginx/}{$dir/}g;
    $text =~ s{/usr/local/share/lua/5.1/}{$ENV{TEST_NGINX_LUA}/}g;

    return $text;
}


# the names of the directives that are in no block

sub outermost {
    my ($text) = @_;
    my ($depth, $first, @names) = (0, 1);

    while ($text =~ /\G(?:\s+|\#.*)*
                       ([{};]|"(?:\\.|[^"])*"|'(?:\\.|[^'])*'|[^\s;{}]+)/gx)
    {
        if ($1 eq '{') {
            $depth++;
            $first = 1;
        } elsif ($1 eq '}') {
            $depth--;
            $first = 1;
        } elsif ($1 eq ';') {
            $first = 1;
        } else {
            push @names, $1 if $first && !$depth;
            $first = 0;
        }
    }

    return @names;
}


# a whole configuration around an example, with what it takes for granted

sub configuration {
    my ($example) = @_;
    my $sockets = 0;

    $example = moved($example);
    $example =~ s/^\s*load_module .*\n//mg;
    $example =~ s/^(\s*)listen .*\n//mg;

    my %seen = map { ($context{$_} // 'location') => 1 } outermost($example);

    if (!$seen{main}) {
        my $taken = $example;

        $example = "location / {\n$example}\n"
            if $seen{location} && !$seen{http} && !$seen{server};
        $example = "server {\n$example}\n"
            if ($seen{location} || $seen{server}) && !$seen{http};

        for my $pipeline (qw(internal user)) {
            next if $taken =~ /trace_exporter $pipeline/;
            my $routing = $pipeline eq 'user' ? 'routing_header x-tenant; '
                : '';
            $example = "trace_exporter $pipeline"
                . " { endpoint unix:$dir/s; $routing}\n$example";
        }

        $example .= "server {\n}\n" if $example !~ /\bserver\s*\{/;
        $example = "events {\n}\nhttp {\n$example}\n";
    }

    $example =~ s/(\bserver\s*\{)/"$1 listen unix:$dir\/" . $sockets++
        . '.sock;'/ge;

    my $paths = join '', map { "    ${_}_temp_path $dir/$_;\n" }
        qw(client_body proxy fastcgi uwsgi scgi);
    $paths .= "    access_log off;\n" if $example !~ /access_log/;
    $example =~ s/(\bhttp\s*\{\n)/$1$paths/;
    $example = "error_log $dir/error.log warn;\n$example"
        if $example !~ /error_log/;

    return "${modules}pid $dir/nginx.pid;\n$example";
}


sub nginx {
    my ($text, @args) = @_;

    open my $out, '>', "$dir/nginx.conf" or die $!;
    print $out $text;
    close $out or die $!;

    return (@nginx, '-p', "$dir", '-e', "$dir/error.log", '-c',
        "$dir/nginx.conf", @args);
}


# what `nginx -t -q` says, nothing if all is well

sub check_configuration {
    my ($text) = @_;
    my $pid = open(my $out, '-|') // die "fork: $!";

    if (!$pid) {
        open STDERR, '>&', \*STDOUT or die $!;
        exec nginx($text, '-t', '-q') or die $!;
    }

    local $/;
    my $said = <$out> // '';
    close $out;

    # of a worker's user, where nginx is not started as root
    $said =~ s/^nginx: \[warn\] the "user" directive makes sense only.*\n//mg;

    return $? && $said eq '' ? "exit status $?" : $said;
}


# each message of the module is on the page where people look for it

sub messages {
    my %text = map { my $text = slurp("docs/$_.md"); $text =~ s/\s+/ /g;
        ($_ => $text) } qw(directives operations);

    for my $file (glob 'ngx_module/*.c') {
        my $source = slurp($file);

        while ($source =~ /ngx_(conf_)?log_error\(NGX_LOG_(EMERG|WARN|ERR),
            [^"]*? ((?:"(?:\\.|[^"\\])*"\s*)+)/gxs)
        {
            my ($page, $message) = $2 eq 'EMERG' ? ('directives', $3)
                : ('operations', $3);

            $message = join '', $message =~ /"((?:\\.|[^"\\])*)"/g;
            $message =~ s/\\(.)/$1/g;

            my $pattern = join '.*?', map { quotemeta }
                split /%(?:\*s|uL|uz|u?i|[Vsd])/, $message, -1;

            # not like(), which would print the page
            ok($text{$page} =~ $pattern,
                "docs/$page.md has the message \"$message\"");
        }
    }
}


sub receiver {
    my ($name) = @_;
    my $pid = fork() // die "fork: $!";

    if (!$pid) {
        umask 0;
        open STDOUT, '>', "$dir/$name.jsonl" or die $!;
        open STDERR, '>', "$dir/$name.log" or die $!;
        exec "$build/traceparent", 'receive', '--json',
            "unix:$dir/$name.sock" or die $!;
    }

    return $pid;
}


sub wait_for {
    my ($what) = @_;
    my $deadline = time + 10;

    until ($what->()) {
        return 0 if time > $deadline;
        sleep 0.02;
    }

    return 1;
}


sub get {
    my ($path, @headers) = @_;
    my $socket = IO::Socket::UNIX->new(Peer => "$dir/0.sock") or die $!;

    print $socket join "\r\n", "GET $path HTTP/1.1", 'Host: localhost',
        'Connection: close', @headers, '', '';

    local $/;
    my ($head, $body) = split /\r\n\r\n/, scalar <$socket>, 2;
    return $body;
}


sub spans {
    my ($name) = @_;

    return map { decode_json($_) } split /\n/, slurp("$dir/$name.jsonl");
}


# notes the id of a request's attempt in |$of|

sub request_span {
    my ($span, $of) = @_;

    $of->{$span->{parent_span_id}} = $span->{span_id}
        if $span->{kind} eq 'CLIENT';
    return $span->{kind} eq 'SERVER';
}


# requests of a known tenant and of nobody, through the Synopsis as it is; the
# application behind it answers with the headers that it gets

sub synopsis {
    my $text = configuration($synopsis);

    $text =~ s/server 127\.0\.0\.1:8080;/server unix:$dir\/app.sock;/
        or die 'no upstream in the Synopsis';
    $text =~ s/\}\s*\z/<<"END"/e;
    server {
        listen unix:$dir\/app.sock;
        trace internal off;
        trace_trusted internal unix:;
        add_header x-app-version 7;
        return 200 "\$http_traceparent \$http_x_op_traceparent";
    }
}
END

    my @receivers = map { receiver($_) } qw(otlp users);
    wait_for(sub { -S "$dir/otlp.sock" && -S "$dir/users.sock" })
        or die 'no receivers: ' . slurp("$dir/otlp.log");

    unlink "$dir/0.sock", "$dir/error.log";
    my $server = fork() // die "fork: $!";
    exec nginx($text, '-g', 'daemon off;') if !$server;

    ok(wait_for(sub { -s "$dir/nginx.pid" && -S "$dir/0.sock" }),
        'Synopsis: nginx starts') or diag slurp("$dir/error.log");

    my ($trace, $parent) = ('4bf92f3577b34da6a3ce929d0e0e4736',
        '00f067aa0ba902b7');
    my @sent = ("traceparent: 00-$trace-$parent-01",
        "x-op-traceparent: 00-0af7651916cd43dd8448eb211c80319c-$parent-01");
    my $tenants = get('/api/x', 'X-Api-Key: key-of-acme', @sent);
    my $nobodys = get('/api/x', @sent);

    kill 'QUIT', $server;
    waitpid $server, 0;
    is($?, 0, 'Synopsis: nginx ends');
    kill 'TERM', @receivers;
    waitpid $_, 0 for @receivers;

    my %of;
    my @internal = grep { request_span($_, \%of) } spans('otlp');
    my @user = grep { request_span($_, \%of) } spans('users');

    is(scalar @internal, 2, 'Synopsis: the operator gets a span of each');
    is(scalar @user, 1, 'Synopsis: the tenant gets one');

    my ($span) = @user;
    my ($first, $second) = @internal;

    is($span->{headers}{'x-tenant'}, 'acme', 'Synopsis: its routing');
    is($span->{trace_id}, $trace, "Synopsis: it is in the client's trace");
    is($span->{parent_span_id}, $parent, "Synopsis: below the client's span");
    is($span->{name}, 'GET /api/', 'Synopsis: its name');
    is($span->{attributes}{'app.version'}, '7', 'Synopsis: its attribute');
    is($span->{resource}{'service.name'}, 'edge', 'Synopsis: its service');
    is($first->{links}[0]{span_id}, $span->{span_id},
        'Synopsis: the internal span links to it');
    is($first->{parent_span_id}, '',
        "Synopsis: nobody is believed in the operator's header");
    is($tenants, "00-$trace-$of{$span->{span_id}}-01"
        . " 00-$first->{trace_id}-$of{$first->{span_id}}-03",
        'Synopsis: the application is told both');
    is($nobodys, "00-$trace-$parent-01"
        . " 00-$second->{trace_id}-$of{$second->{span_id}}-03",
        'Synopsis: without a tenant, traceparent is as the client sent it');
    is(slurp("$dir/error.log"), '', 'Synopsis: no line in the error log');
}
