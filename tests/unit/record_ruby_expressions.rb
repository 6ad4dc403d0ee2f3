# Writes ruby_expressions.json anew: what Ruby gives for each expression, evaluated as Fluentd's record_transformer does,
# with the encodings that it has in Fluentd's workers:
#
#     TZ=UTC ruby -Eascii-8bit:ascii-8bit record_ruby_expressions.rb
require 'json'
require 'socket'
require 'time'

class Clean
  def expand(text, tag, time, record, tag_parts, tag_prefix, tag_suffix, hostname)
    instance_eval(text)
  end
end

path = File.join(__dir__, 'ruby_expressions.json')
fixture = JSON.parse(File.binread(path).force_encoding('UTF-8'))
tag = fixture['tag']
parts = tag.split('.')
prefixes = parts.each_index.map { |at| parts[0..at].join('.') }
suffixes = parts.each_index.map { |at| parts[at..].join('.') }
seconds, nanoseconds = fixture['time_ns'].divmod(1_000_000_000)
time = Time.at(seconds, nanoseconds, :nsec)
fixture['ruby'] = RUBY_VERSION
fixture['expressions'] = fixture['expressions'].map do |text, _|
  value = Clean.new.expand(text, tag, time, fixture['record'], parts, prefixes, suffixes, 'h')
  value = value.to_s if value.is_a?(Time)
  raise RangeError, 'MessagePack cannot hold it' if value.is_a?(Integer) && !(-2**63...2**64).cover?(value)
  [text, value.is_a?(Float) && !value.finite? ? { 'float' => value.to_s } : { 'value' => value }]
rescue StandardError => e
  [text, { 'raises' => e.class.to_s }]
end
lines = fixture.delete('expressions').map { |pair| "  #{JSON.generate(pair)}" }
head = JSON.generate(fixture).chomp('}')
File.binwrite(path, "#{head},\n\"expressions\": [\n#{lines.join(",\n")}\n]}\n")
