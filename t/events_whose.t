# Whose a user's request is may change on its way: to whom it is announced, who
# is told its end, and who gets the span. Asking whose it is changes nothing of
# the request. And whoever is told of a beginning is told how it ended, once.

use strict;
use warnings;

BEGIN {
    my $build = $ENV{TEST_BUILD} || 'build';

    $ENV{TEST_NGINX_LOAD_MODULES} .= " $build/ngx_http_trace_test_module.so"
        if $ENV{TEST_NGINX_LOAD_MODULES};
}

use Events;
use Held;
use Spans;
use Test::More;

# one worker that announces, and who collects it

sub announcing {
    my ($dir, $server, %conf) = @_;
    my $spans = Spans->new("$dir/otlp.sock");
    my $nginx = held($dir, 'interval 20ms;', main => 'worker_processes 1;',
        %conf, http => 'trace_events both; proxy_intercept_errors on;'
            . ($conf{http} // ''), server => $server)->start;

    return ($nginx, $spans);
}

# what a tenant is told, as text, and its spans of each kind

sub told {
    my ($spans, $tenant) = @_;
    my @requests = Events::requests(grep { $_->{event_name} } of($spans,
        $tenant));

    is(join("\n", map { Events::complaints($_) } @requests), '',
        "$tenant is told in order");
    return join '', map { "$_\n" } map { Events::draw(@$_) } @requests;
}

sub has {
    my ($spans, $tenant) = @_;

    return join ', ', sort map { "$_->{kind} $_->{name}" }
        grep { !$_->{event_name} } of($spans, $tenant);
}

sub of {
    my ($spans, $tenant) = @_;

    return grep { ($_->{headers}{'x-tenant'} // '-') eq $tenant } $spans->all;
}

# nothing is lost, nor told to be

sub complete {
    my ($nginx, %spans) = @_;

    balance($nginx, pipeline => $_, of => 'events') for qw(internal user);
    balance($nginx, pipeline => 'user', %spans);
}

# the worker, for which another one starts; all that it has told has come

sub kill_worker {
    my $nginx = shift;
    my ($worker) = $nginx->workers;

    for my $pipeline (qw(internal user)) {
        settled($nginx, $pipeline, $_) for qw(spans events);
    }

    kill 'KILL', $worker;
    $nginx->wait_for(sub { grep { $_ != $worker } $nginx->workers });
}

# what the other tenant has to itself

my $second = 'trace_routing second; trace_span secret;
    trace_span_name user secret; span access open 0 secret;
    span header open 1 secret; span header set 1 secret=s1;
    span header rename 2 secret; span header set 2 secret=s1;
    span header open 3 secret 0 2; span rewrite open 4 secret;';

# how a request gets there from where it has opened "work", and what has become
# of its first attempt

my @moves = (
    ['error_page' => 'error_page 503 = /second;
        proxy_pass http://behind/x?status=503&a=;', ' ERROR error=503'],
    ['error_page, named' => 'error_page 503 = @second;
        proxy_pass http://behind/x?status=503&a=;', ' ERROR error=503'],
    ['X-Accel-Redirect' => 'proxy_pass http://behind/x?redirect=/second&a=;',
        ''],
    ['a redirect without an attempt' => 'echo_exec /second;'],
);

# what its tenant is told of it

sub of_first {
    my ($attempt, $end) = @_;
    my @attempt = defined $attempt
        ? ("  open CLIENT GET\n", "  close GET$attempt\n") : ();

    return "open SERVER GET /first\n  open INTERNAL work\n"
        . join('', @attempt) . "  close work\nclose GET /first$end\n";
}

sub moving {
    my ($dir, $first, $second) = @_;

    return announcing($dir, "
        location /first { span rewrite open 2 work; $first }
        location /second { $second proxy_pass http://behind; }
        location \@second { $second proxy_pass http://behind; }");
}

sub all_of_second {
    my $attempts = shift;

    return join ', ', ('CLIENT GET') x $attempts, ('INTERNAL secret') x 5,
        'SERVER secret';
}

for (@moves) {
    my ($by, $first, $attempt) = @$_;

    scene "to a location of another tenant, by $by", sub {
        my $dir = shift;
        my ($nginx, $spans) = moving($dir, $first, $second);

        is($nginx->get('/first?tenant=first'), 200, 'it is answered');
        complete($nginx);
        is(told($spans, 'first'), of_first($attempt, ''),
            'the first one is told its ends, and nothing else');
        is(told($spans, 'second'), '', 'the second one nothing');
        is(has($spans, 'first'), '', 'the first one has no span');
        is(has($spans, 'second'), all_of_second(defined $attempt ? 2 : 1),
            'the second one has all');
    };
}

# what a location says of itself, and what is told of it if it is the same
# tenant's; names are in events alone

my %same = (
    'in other words' => 'trace_routing first; trace_span work;
        span access open 1 inner; proxy_pass http://behind;',
    'that answers in its rewrites' => 'trace_routing first; return 200;',
);
my %told = (
    'in other words' => '  open INTERNAL work
    open INTERNAL inner
    open CLIENT GET
return 200
    close GET
    close inner
  close work
', 'that answers in its rewrites' => "return 200\n");

for my $how (sort keys %same) {
    scene "to a location of the same tenant, $how", sub {
        my $dir = shift;
        my ($nginx, $spans) = announcing($dir, "location /first {
                $moves[0][1] }
            location /second { $same{$how} }");

        is($nginx->get('/first?tenant=first'), 200, 'it is answered');
        complete($nginx);
        is(told($spans, 'first'), <<"_EOC_", 'all is told');
open SERVER GET /first
  open CLIENT GET
  close GET ERROR error=503
$told{$how}name GET /first -> GET /second
close GET /second
_EOC_
    };
}

scene 'the same routing has another value', sub {
    my $dir = shift;
    my ($nginx, $spans) = announcing($dir, "set \$tenant first;
        trace_routing \$tenant;
        location /first { span rewrite open 2 work; $moves[0][1] }
        location /second { set \$tenant second;
            ${\($second =~ s/trace_routing second;//r)}
            proxy_pass http://behind; }");

    is($nginx->get('/first'), 200, 'it is answered');
    complete($nginx);
    is(told($spans, 'first'), of_first($moves[0][2], ''), 'ends');
    is(has($spans, 'second'), all_of_second(2), 'who has it now');
};

scene 'how it ends at another tenant', sub {
    my $dir = shift;
    my ($nginx, $spans) = moving($dir, $moves[0][1], "$second return 500;");

    is($nginx->get('/first?tenant=first'), 500, 'it is answered');
    complete($nginx);
    is(told($spans, 'first'), of_first($moves[0][2], ''), 'is not told');
};

scene 'to where it is nobody\'s', sub {
    my $dir = shift;
    my ($nginx, $spans) = moving($dir, $moves[0][1],
        $second =~ s/trace_routing second/trace_routing \$arg_nobody/r);

    is($nginx->get('/first?tenant=first'), 200, 'it is answered');
    complete($nginx, no_routing => 8);
    is(told($spans, 'first'), of_first($moves[0][2], ''), 'ends');
    is(has($spans, 'first'), '', 'nobody has its spans');
};

scene 'before it was announced', sub {
    my $dir = shift;
    my ($nginx, $spans) = moving($dir, 'error_page 403 = /second; deny all;
        proxy_pass http://behind;', $second);

    is($nginx->get('/first?tenant=first'), 200, 'it is answered');
    complete($nginx);
    is(told($spans, 'first'), '', 'who never had it knows nothing');
    like(told($spans, 'second'), qr{\Aopen[ ]SERVER[ ]GET[ ]/second\n.*\nreturn
        .*\nclose[ ]secret\n\z}sx, 'who has it is told all');
    is(has($spans, 'second'), all_of_second(1), 'as its spans are');
};

scene 'the worker dies when a request is at another tenant', sub {
    my $dir = shift;
    my ($nginx, $spans) = moving($dir, $moves[0][1],
        "$second rewrite ^ /last?delay=60 break;");

    upstream()->requests;
    my @sockets = hold($nginx, ['/first?tenant=first']);
    upstream()->requests(2);
    kill_worker($nginx);
    complete($nginx);
    is(told($spans, 'first'), of_first($moves[0][2], ' ERROR error=worker_exit')
        =~ s/close work/$& ERROR error=worker_exit/r, 'ends');
    is(told($spans, 'second'), '', 'the second one is told nothing');
    is(has($spans, 'first'), '', 'the first one has no span');
    is(has($spans, 'second'), 'SERVER GET /first', 'but the second one has');
};

for my $dies (0, 1) {
    scene 'a post_action is of who was answered' . (', also when the worker '
        . 'dies') x $dies, sub
    {
        my $dir = shift;
        my ($nginx, $spans) = announcing($dir, 'location /first {
                trace_routing first; post_action /after;
                proxy_pass http://behind; }
            location /after { trace_routing second; trace_span_name user secret;
                proxy_pass http://behind/after?delay=1&a=; }');

        upstream()->requests;
        my @sockets = hold($nginx, ['/first']);
        upstream()->requests(2);
        $dies ? kill_worker($nginx) : until_open($nginx, 0);
        complete($nginx);
        is(told($spans, 'first'), <<"_EOC_", 'who was, is told all');
open SERVER GET /first
  open CLIENT GET
return 200
  close GET
  open CLIENT GET
${\("  close GET\n" x !$dies . "  close GET ERROR error=worker_exit\n" x $dies)
}close GET /first${\(' ERROR error=worker_exit' x $dies)}
_EOC_
        is(told($spans, 'second'), '', 'the second one is told nothing');
        is(has($spans, 'first'), 'CLIENT GET, ' x (2 * !$dies)
            . 'SERVER GET /first', 'and has the spans');
        is(has($spans, 'second'), '', 'the second one has nothing');
    };
}

# variables that are asked for whose it is, and then by the request

for my $what ('trace user off', 'trace_events off', 'trace_events both') {
    scene "variables are what they would be: $what", sub {
        my $dir = shift;
        my ($nginx) = announcing($dir, "trace_routing \$values;
            location /first { $what; set \$step 1;
                auth_request /auth;
                auth_request_set \$auth \$upstream_http_etag;
                error_page 503 = \@second;
                proxy_pass http://behind/x?status=503&a=; }
            location \@second { $what; set \$step 2;
                proxy_set_header x-values \$values;
                proxy_pass http://behind; }
            location = /auth { internal;
                proxy_pass http://behind/?etag=alice; }",
            http => 'map $step $map { default "map $step"; }
                map $step $volatile { volatile; default "volatile $step"; }
                map "" $values { default "$step, $auth, $map, $volatile"; }
                ');

        upstream()->requests;
        is($nginx->get('/first'), 200, 'it is answered');
        my ($last) = grep { $_->{line} =~ /first/ } upstream()->requests(3);
        is(join(',', map { $_->[1] } grep { $_->[0] eq 'x-values' }
            @{$last->{headers}}), '2, "alice", map 2, volatile 2', 'values');
    };
}

# all are of one tenant, and some go where nobody listens

sub ending {
    my ($dir, $server) = @_;

    return announcing($dir, "trace_routing acme; $server",
        http => "upstream nobody { server unix:$dir/nobody; }");
}

# what error_page takes to where it has no span, or only there has one

my $subrequests = '
    location /dies { echo_location /dead; }
    location = /dead { proxy_pass http://nobody; }
    location /falls { echo_location /seen; }
    location = /seen { error_page 502 /unseen; proxy_pass http://nobody; }
    location = /unseen { trace_subrequests off; echo x; }
    location /rises { echo_location /hidden; }
    location = /hidden { trace_subrequests off; trace_span work;
        error_page 502 /shown; proxy_pass http://nobody; }
    location = /shown { trace_subrequests on; echo x; }';

my @kinds = ('open SERVER GET /dies
return 200
  open INTERNAL subrequest /dead
    open CLIENT GET
    close GET ERROR error=connect
  close subrequest /dead ERROR error=502
close GET /dies', 'open SERVER GET /falls
return 200
  open INTERNAL subrequest /seen
    open CLIENT GET
    close GET ERROR error=connect
  close subrequest /seen ERROR error=502
close GET /falls', 'open SERVER GET /rises
return 200
  open INTERNAL work
    open CLIENT GET
    close GET ERROR error=connect
  close work
  open INTERNAL subrequest /shown
  close subrequest /shown ERROR error=502
close GET /rises');

scene 'nothing is left of 200 subrequests of each kind', sub {
    my $dir = shift;
    my ($nginx, $spans) = ending($dir, $subrequests);
    my @paths = qw(/dies /falls /rises);

    is(scalar(grep { $nginx->get($_) == 200 } (@paths) x 200), 600,
        'all are answered');
    my @held = hold($nginx, ['/held?delay=60']);
    until_open($nginx, 1);
    kill_worker($nginx);
    complete($nginx);

    my @records = grep { $_->{event_name} } $spans->all;
    my @requests = Events::requests(@records);
    my @complaints = map { Events::complaints($_) } @requests;
    my (%died, %kinds);

    for (@requests) {
        my $text = join "\n", Events::draw(@$_);

        $text =~ /worker_exit/ ? $died{$_->[0]{trace_id}}++ : $kinds{$text}++;
    }

    is_deeply([splice @complaints, 0, 9], [], 'each end is told once');
    is(scalar keys %died, 2, 'what was open has died');
    is_deeply(\%kinds, { map { $_ => 400 } @kinds }, 'and nothing else');

    # one is told of what it has no span of in the end

    my %falls = map { $_->{trace_id} => 1 }
        grep { ($_->{attributes}{'span.name'} // '') eq 'GET /falls' } @records;
    my @finished = grep { !$falls{$_->{trace_id}} && !$died{$_->{trace_id}} }
        $spans->all;

    @complaints = Events::span_complaints(
        [grep { $_->{event_name} } @finished],
        [grep { !$_->{event_name} } @finished]);
    is_deeply([splice @complaints, 0, 9], [], 'as their spans did');
};

# a location, and the status

my @statuses = (
    ['error_page 404 =203 /gif; alias /nowhere/;' => 203],
    ['error_page 502 /gif; proxy_pass http://nobody;' => 502],
    ['header_filter_by_lua_block { ngx.status = 418 } empty_gif;' => 418],
);

for (@statuses) {
    my ($location, $status) = @$_;

    next if $location =~ /lua/ && $ENV{TEST_NGINX_LOAD_MODULES} !~ /_lua_/;

    scene "span.return says $status, which is sent", sub {
        my $dir = shift;
        my ($nginx, $spans) = ending($dir, "location /t { $location }
            location = /gif { empty_gif; }");

        is($nginx->get('/t'), $status, 'the status');
        complete($nginx);
        is_deeply([map { $_->{attributes}{'http.response.status_code'} }
            grep { ($_->{event_name} // '') eq 'span.return' } $spans->all],
            [$status, $status], 'is told');
    };
}

done_testing();
