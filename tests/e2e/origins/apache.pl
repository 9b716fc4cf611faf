#!/usr/bin/perl
# The readings of Apache, one JSON line for each request; LOG is put in by the test.
use strict;

sub quoted {
    my ($text) = @_;
    $text =~ s/([^ !#-\[\]-~])/sprintf('\u%04x', ord($1))/ge;
    return "\"$text\"";
}

binmode STDIN;
my $body = do { local $/; <STDIN> } // '';
# A body that broke off was not read.
exit 1 if length($body) < ($ENV{CONTENT_LENGTH} || 0);
my $fields = join ',', map {
    my $name = lc substr($_, 5);
    $name =~ tr/_/-/;
    my $more = $name eq 'host' ? ',' . quoted($ENV{SERVER_NAME}) : '';
    quoted($name) . ':[' . quoted($ENV{$_}) . "$more]";
} grep { /^HTTP_/ } keys %ENV;
open my $log, '>>', 'LOG' or exit 1;
syswrite $log, '{"method":' . quoted($ENV{REQUEST_METHOD}) . ',"paths":[' . quoted($ENV{SCRIPT_NAME})
    . "],\"fields\":{$fields},\"body\":" . quoted($body) . "}\n";
close $log;
print "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";
