# What a user of the library gets: the example of docs/library.md compiles and
# does what the page says, and the shared library shows what the headers
# declare and nothing else.

use strict;
use warnings;

use File::Temp qw(tempdir);
use Test::More;

my $build = $ENV{TEST_BUILD} // 'build';
my $cc = $ENV{CC} // 'cc';
my $dir = tempdir(CLEANUP => 1);

my ($example, $printed) = slurp('docs/library.md')
    =~ /^```c\n(.*?)^```\n.*^```\n\n[^`]*^```\n(.*?)^```\n/ms
    or die "docs/library.md: no example, or not what it prints\n";

open my $out, '>', "$dir/example.c" or die $!;
print $out $example;
close $out or die $!;

my @libraries = (
    [ 'static', "$build/libtraceparent.a" ],
    [ 'shared', "-L$build", '-ltraceparent', "-Wl,-rpath,$build" ],
);

for (@libraries) {
    my ($name, @link) = @$_;

    is(system($cc, qw(-std=c99 -Wall -Wextra -Werror -Ilib/include -o),
        "$dir/example", "$dir/example.c", @link), 0,
        "$name: the example compiles");

    my $output = `$dir/example`;

    is($?, 0, "$name: the example runs");
    is(without_parent_id($output), without_parent_id($printed),
        "$name: the example prints what its page says");
    isnt($output, `$dir/example`, "$name: another parent-id each time");
}

my @declared = map { slurp($_) =~ /\b((?:traceparent|tracestate)_\w+)\(/g }
    map { "lib/include/traceparent/$_.h" } qw(traceparent tracestate ids sampler);
my %declared = map { $_ => 1 } grep { !/_$/ } @declared;
my @shown = map { /^\w+ [A-Z] (\w+)/ ? $1 : () }
    `nm --dynamic --defined-only $build/libtraceparent.so`;

is_deeply([ sort @shown ], [ sort keys %declared ],
    'the shared library shows what the headers declare');

# and what an author of an nginx module gets, whose example compiles with it

my $nginx = $ENV{NGX_SRC} // '/usr/share/nginx/src';

is(system("t/scripts/install '$build' 0.1.0 '$dir' /usr /usr/lib /modules"
    . ' > /dev/null'), 0, 'make install');
is(system($cc, qw(-fsyntax-only -Wall -Wextra -Wno-unused-parameter -Werror),
    "-I$dir/usr/include", "-I$build/nginx",
    map({ "-I$nginx/src/$_" }
        qw(core event event/modules os/unix http http/modules http/v2)),
    'docs/example/ngx_http_trace_example_module.c'), 0,
    'the example of docs/c-api.md compiles with the header that is installed');
ok(-f "$dir/usr/share/lua/5.1/resty/trace.lua",
    'resty.trace is where LuaJIT looks for it');

done_testing();


sub slurp {
    my ($file) = @_;

    open my $in, '<', $file or die "$file: $!\n";
    local $/;

    return <$in>;
}


sub without_parent_id {
    my ($text) = @_;

    $text =~ s/^(traceparent: 00-\w{32}-)[0-9a-f]{16}-/$1-/;

    return $text;
}
